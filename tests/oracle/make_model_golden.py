"""Golden vectors of the model from transformers + peft: tests/golden/model/<case>.safetensors, and
the model's config.json beside them, <case>.json.

    make_model_golden.py [CASE...]  writes them, or these
    make_model_golden.py --check    compares them with what it would write

Each case is a small random model (weights by formula: synthetic_model.py) with LoRA, trained for
20 AdamW steps on CPU in f32; the file has the case, the losses and gradient norms of all steps,
every LoRA gradient of two steps, the logits of the first sequence before training, and as a
measure of bf16 the relative error of PyTorch's own bf16 gradients of step 0 (bf16_errors: all
tensors as one vector, then the worst tensor).
tests/golden/test_model_golden.c runs the same steps in C.
"""

import json
import os
import sys

import numpy as np
import peft
import torch
import transformers
from safetensors.numpy import load_file, save_file

import synthetic_model

STEPS = 20
LATER_STEP = 12
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
               "qkv_proj", "gate_up_proj"]
OPTIMIZER = dict(lr=5e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.01, clip_norm=0.5,
                 warmup=3)

CASES = {
    # 3 query heads a key/value head, heads of 20 that do not add up to the hidden size.
    "untied_head20": dict(vocab=97, hidden=78, intermediate=101, layers=2, heads=6, kv_heads=2,
                          head_dim=20, context=64, eps=1e-5, theta=10000.0, tied=0, rank=4,
                          alpha=6.0, targets=0x7F),
    "tied_head64": dict(vocab=131, hidden=96, intermediate=88, layers=3, heads=3, kv_heads=1,
                        head_dim=64, context=64, eps=1e-6, theta=500000.0, tied=1, rank=3,
                        alpha=8.0, targets=0x05),
    # Wavelengths of 6, 30 and 145 and more: above, between and below the two limits.
    "llama31": dict(vocab=97, hidden=54, intermediate=68, layers=2, heads=3, kv_heads=1,
                    head_dim=16, context=64, eps=1e-5, theta=300000.0, tied=0, rank=3, alpha=6.0,
                    targets=0x7F,
                    rope=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0,
                              high_freq_factor=4.0, original_max_position_embeddings=32)),
    # A window in the last layer, shorter than the sequences; biases.
    "qwen2": dict(family="qwen2", vocab=89, hidden=52, intermediate=76, layers=2, heads=6,
                  kv_heads=2, head_dim=10, context=64, eps=1e-6, theta=1000000.0, tied=1, rank=3,
                  alpha=8.0, targets=0x7F,
                  fields=dict(use_sliding_window=True, sliding_window=6, max_window_layers=1)),
    # Both sets of LongRoPE: sequences of 5 to 27 tokens, one at a time, as transformers chooses for
    # the whole of a padded batch.
    "phi3": dict(family="phi3", vocab=93, hidden=56, intermediate=70, layers=2, heads=4,
                 kv_heads=2, head_dim=14, context=64, eps=1e-5, theta=10000.0, tied=0, rank=3,
                 alpha=6.0, targets=0x1C8, alone=True,
                 rope=dict(rope_type="longrope", original_max_position_embeddings=16,
                           short_factor=[1.0, 1.02, 1.05, 1.1, 1.2, 1.4, 1.7],
                           long_factor=[1.1, 1.5, 2.2, 3.0, 4.5, 6.0, 8.0]),
                 fields=dict(sliding_window=9, original_max_position_embeddings=16,
                             pad_token_id=0)),
}
CLASSES = {"llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
           "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
           "phi3": (transformers.Phi3Config, transformers.Phi3ForCausalLM)}


def schedule(step):
    """Cosine to zero at STEPS after a linear warm-up whose first rate is above zero."""
    warmup = OPTIMIZER["warmup"]
    if step < warmup:
        return OPTIMIZER["lr"] * (step + 1) / warmup
    progress = (step - warmup) / (STEPS - warmup)
    return OPTIMIZER["lr"] * 0.5 * (1 + np.cos(np.pi * progress))


def config_of(case):
    family = case.get("family", "llama")
    fields = dict(case.get("fields", {}))
    if family == "llama":
        fields.update(attention_bias=False, mlp_bias=False)
    if family != "phi3":  # which has none: hidden / heads
        fields.update(head_dim=case["head_dim"])
    rope = {"rope_type": "default", **case.get("rope", {}), "rope_theta": case["theta"]}
    return CLASSES[family][0](
        vocab_size=case["vocab"], hidden_size=case["hidden"],
        intermediate_size=case["intermediate"], num_hidden_layers=case["layers"],
        num_attention_heads=case["heads"], num_key_value_heads=case["kv_heads"],
        max_position_embeddings=case["context"], rms_norm_eps=case["eps"],
        tie_word_embeddings=bool(case["tied"]), rope_parameters=rope, bos_token_id=None,
        eos_token_id=None, use_cache=False, **fields)


def config_json(case):
    """As save_pretrained writes it, without what says nothing about the model."""
    config = config_of(case)
    config.architectures = [CLASSES[case.get("family", "llama")][1].__name__]
    fields = json.loads(config.to_json_string(use_diff=False))
    for name in ("transformers_version", "dtype", "_name_or_path", "id2label", "label2id"):
        fields.pop(name, None)
    return json.dumps(fields, indent=2, sort_keys=True) + "\n"


def build(case):
    config = config_of(case)
    config._attn_implementation = "eager"
    model = CLASSES[case.get("family", "llama")][1](config).to(torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(synthetic_model.tensor(name, parameter.shape)))
    targets = [p for i, p in enumerate(PROJECTIONS) if case["targets"] >> i & 1]
    model = peft.get_peft_model(model, peft.LoraConfig(
        r=case["rank"], lora_alpha=case["alpha"], lora_dropout=0.0, bias="none",
        target_modules=targets, task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, parameter in lora_parameters(model).items():
            parameter.copy_(torch.from_numpy(synthetic_model.tensor(name, parameter.shape)))
    return model


def lora_parameters(model):
    return {name.replace(".default", ""): p for name, p in model.named_parameters()
            if p.requires_grad}


def step_text(case, step):
    """Three sequences of a step: ids by formula, their lengths and prompt lengths."""
    draw = synthetic_model.words(f"lengths.{step}", 6)
    lengths = [int(5 + d % 23) for d in draw[:3]]
    prompts = [int(1 + d % (n - 2)) for d, n in zip(draw[3:], lengths)]
    ids = (synthetic_model.words(f"ids.{step}", sum(lengths)) % case["vocab"]).astype(np.int64)
    return np.split(ids, np.cumsum(lengths)[:-1]), lengths, prompts


def padded(ids, prompts):
    longest = max(len(row) for row in ids)
    batch = torch.zeros(len(ids), longest, dtype=torch.long)
    mask = torch.zeros_like(batch)
    labels = torch.full_like(batch, -100)
    for i, (row, prompt) in enumerate(zip(ids, prompts)):
        batch[i, :len(row)] = torch.from_numpy(row)
        mask[i, :len(row)] = 1
        labels[i, prompt:len(row)] = torch.from_numpy(row[prompt:])
    return batch, mask, labels


def text_loss(model, case, step):
    ids, lengths, prompts = step_text(case, step)
    if case.get("alone"):
        return loss_alone(model, ids, prompts), None, lengths, prompts
    batch, mask, labels = padded(ids, prompts)
    logits = model(input_ids=batch, attention_mask=mask).logits.float()
    loss = torch.nn.functional.cross_entropy(
        logits[:, :-1].reshape(-1, case["vocab"]), labels[:, 1:].reshape(-1), ignore_index=-100)
    return loss, logits, lengths, prompts


def loss_alone(model, ids, prompts):
    total, count = 0.0, 0
    for row, prompt in zip(ids, prompts):
        logits = model(input_ids=torch.from_numpy(row)[None]).logits[0].float()
        labels = torch.from_numpy(row[prompt:])
        total = total + torch.nn.functional.cross_entropy(
            logits[prompt - 1:-1], labels, reduction="sum")
        count += len(labels)
    return total / count


def bf16_errors(case):
    gradients = []
    for dtype in (torch.float32, torch.bfloat16):
        model = build(case).to(dtype)
        text_loss(model, case, 0)[0].backward()
        gradients.append([p.grad.float() for p in lora_parameters(model).values()])
    squares = [((a - b).square().sum().item(), a.square().sum().item()) for a, b in zip(*gradients)]
    whole = np.sqrt(sum(e for e, _ in squares) / sum(n for _, n in squares))
    return [whole, max(np.sqrt(e / n) for e, n in squares)]


def run(case):
    model = build(case)
    parameters = lora_parameters(model)
    optimizer = torch.optim.AdamW(parameters.values(), lr=OPTIMIZER["lr"],
                                  betas=(OPTIMIZER["beta1"], OPTIMIZER["beta2"]),
                                  eps=OPTIMIZER["eps"], weight_decay=OPTIMIZER["weight_decay"])
    out = {"losses": [], "norms": [], "lengths": [], "prompts": []}
    out["bf16_errors"] = bf16_errors(case)
    for step in range(STEPS):
        loss, logits, lengths, prompts = text_loss(model, case, step)
        if step == 0:
            if logits is None:
                with torch.no_grad():
                    first = torch.from_numpy(step_text(case, step)[0][0])
                    logits = model(input_ids=first[None]).logits
            out["logits"] = logits[0, :lengths[0]].detach().numpy().copy()
        optimizer.zero_grad()
        loss.backward()
        if step in (0, LATER_STEP):
            for name, parameter in parameters.items():
                out[f"grad.{step}.{name}"] = parameter.grad.numpy().copy()
        norm = torch.nn.utils.clip_grad_norm_(parameters.values(), OPTIMIZER["clip_norm"])
        for group in optimizer.param_groups:
            group["lr"] = schedule(step)
        optimizer.step()
        out["losses"].append(loss.item())
        out["norms"].append(norm.item())
        out["lengths"].append(lengths)
        out["prompts"].append(prompts)
    keys = ["vocab", "hidden", "intermediate", "layers", "heads", "kv_heads", "head_dim",
            "context", "eps", "theta", "tied", "rank", "alpha", "targets"]
    out["case"] = [case[k] for k in keys]
    out["optimizer"] = [*OPTIMIZER.values(), STEPS, LATER_STEP]
    return {k: np.ascontiguousarray(np.asarray(v, dtype=np.float32)) for k, v in out.items()}


def difference(vectors, path):
    """Largest relative difference of an array; the sums of another CPU round differently."""
    committed = load_file(path)
    assert set(committed) == set(vectors), set(committed) ^ set(vectors)
    worst = 0.0
    for name, values in vectors.items():
        if name != "bf16_errors":  # a measurement, not a vector
            off = np.linalg.norm((committed[name] - values).ravel())
            worst = max(worst, off / np.linalg.norm(values.ravel()))
    return worst


def main(check, names):
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    out_dir = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", "model")
    versions = {"torch": torch.__version__, "transformers": transformers.__version__,
                "peft": peft.__version__, "numpy": np.__version__}
    ok = True
    for name, case in CASES.items():
        if names and name not in names:
            continue
        path = os.path.join(out_dir, f"{name}.json")
        if check:
            with open(path) as f:
                same = f.read() == config_json(case)
            ok = ok and same
            print(f"{path}: " + ("the same" if same else "another  FAILED"))
        else:
            with open(path, "w") as f:
                f.write(config_json(case))
        vectors = run(case)
        path = os.path.join(out_dir, f"{name}.safetensors")
        if check:
            off = difference(vectors, path)
            ok = ok and off <= 1e-5
            print(f"{path}: off by {off:.1e}" + ("" if off <= 1e-5 else "  FAILED"))
        else:
            save_file(vectors, path, metadata=versions)
            print(f"{path}: loss {vectors['losses'][0]:.6f} -> {vectors['losses'][-1]:.6f}, "
                  f"PyTorch bf16 gradients off by {vectors['bf16_errors']}")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] == ["--check"], [a for a in sys.argv[1:] if a != "--check"]))
