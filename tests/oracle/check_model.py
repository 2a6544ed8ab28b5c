#!/usr/bin/env python3
"""Seam's model against transformers + peft, live: the same files, the same steps.

    check_model.py [--only tiny|smol] [--kinds f32,bf16] RUN_MODEL [MODEL_DIR]

For tiny models of every family (make_tiny_models.py; also greedy generation by the key/value cache,
whose ids must be those of generate() and of a forward pass without a cache) and, where MODEL_DIR or
SEAM_MODEL names SmolLM2's GGUF directory and the shared data are there, SmolLM2 on GSM8K rows: the loss of every step, every
LoRA gradient of step 0, and after training the logits of Seam's exported adapter loaded by peft.

One more run each trains all blocks in full (weight decay of matrices alone), one has prefix tuning,
whose parameters peft holds as `prompt_embeddings` (or is refused by name), one rsLoRA, and one rsLoRA and dropout: peft's dropout modules
are replaced by one with the masks of ops.h, computed in NumPy, since torch draws others.

f32: losses, every gradient and the logits within 1e-4 of transformers + peft in f32.
bf16: losses and the gradient as a whole within 2e-2 of transformers + peft in f32 on base weights
rounded to bf16 (SmolLM2's Q4_1 weights are not bf16 numbers; published checkpoints are).  Both
read the rounded weights from one file, so the figure is that of the computation alone.  SmolLM2's
gradient is just within it; what is left is the rounding of the frozen products' inputs (1.6e-2).
Printed beside it, without a bound: the worst tensor, the error of PyTorch's autocast (4.2e-2) and
the distance to the unrounded weights.  The last lines are a table: the largest error in f32 of
each model and adapter.
"""

import argparse
import contextlib
import glob
import gzip
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import peft
import torch
import transformers
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_torch
from safetensors.torch import save_file as save_torch

import make_tiny_models
import synthetic_model
from wire_numpy.rounding import philox

HERE = os.path.dirname(os.path.abspath(__file__))
SHARED = os.environ.get("SEAM_SHARED_DIR", os.path.join(HERE, "..", "..", "..", "shared"))
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
               "qkv_proj", "gate_up_proj"]
# All projections of a family, and some.
TARGETS = {"llama": (0x7F, 0x05), "qwen2": (0x7F, 0x05), "phi3": (0x1C8, 0x80)}
GENERATED = 48
# transformers refuses the first one's sizes; the others repeat the first, in other files.
UNLIKE = ("tiny-d20-tied", "tiny-f16", "tiny-sharded", "tiny-d64-untied")
# Models in which a window or LongRoPE's second set begins before a prefix ends: refused so.
NO_PREFIX = {"tiny-qwen2-window": "below the model's sliding_window, 7",
             "tiny-phi3-window": "below the model's sliding_window, 9",
             "tiny-phi3-long": "below the model's original_max_position_embeddings, 16",
             "tiny-phi3-su": "below the model's sliding_window, 11"}
RANK, ALPHA, DROPOUT = 8, 2.0, 0.25
PREFIX, PREFIX_TOKENS = "prefix", 30  # PREFIX in place of LoRA's targets
FULL = "full"  # likewise
# What is trained: the table's columns.
ALL, SOME = "LoRA on all", "LoRA on some"
SCALED, DROPPED = "rsLoRA", f"rsLoRA, dropout {DROPOUT}"
VIRTUAL, BLOCKS = f"prefix of {PREFIX_TOKENS}", "in full"
COLUMNS = (ALL, SOME, SCALED, DROPPED, VIRTUAL, BLOCKS)
LR, BETAS, EPS, DECAY, CLIP = 1e-3, (0.9, 0.999), 1e-8, 0.01, 1.0
BOUNDS = {"f32": 1e-4, "bf16": 2e-2}


def load_base(model):
    gguf = glob.glob(os.path.join(model, "*.gguf"))
    extra = {"gguf_file": os.path.basename(gguf[0])} if gguf else {}
    return transformers.AutoModelForCausalLM.from_pretrained(
        model, dtype=torch.float32, attn_implementation="eager", **extra
    ).eval()


def round_base(model, folder):
    """The model with its weights rounded to bf16, as config.json and safetensors in folder."""
    base = load_base(model)
    expected = {n: w.bfloat16() for n, w in base.state_dict().items()}
    base.config.architectures = [type(base).__name__]
    if hasattr(base.config, "quantization_config"):  # of a GGUF file, which is dequantized now
        del base.config.quantization_config
    base.config.save_pretrained(folder)
    absent = {"lm_head.weight"} if base.config.tie_word_embeddings else set()
    stored = {n: w.contiguous() for n, w in expected.items() if n not in absent}
    save_torch(stored, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    loaded = load_base(folder).state_dict()
    for name, weight in expected.items():  # nothing lost, nothing renamed
        assert torch.equal(loaded[name], weight.float()), name


class CountedDropout(torch.nn.Module):
    """Dropout as ops.h defines it, of the rows that `now` says."""

    STREAM = 0x64726F70

    def __init__(self, now, layer, projection):
        super().__init__()
        self.now, self.place = now, layer * 16 + projection
        self.threshold = round(DROPOUT * 65536)

    def forward(self, x):
        rows, channels = x.shape[-2:]
        step, row0 = self.now["step"], self.now["row"]
        key = philox((step, 0, 0, self.STREAM), (0, 0))[:2]  # micro-batch 0 of a session of seed 0
        row = np.arange(row0, row0 + rows, dtype=np.uint64)[:, None]
        eighth = np.arange((channels + 7) // 8, dtype=np.uint64)[None, :]
        words = philox((eighth, row, self.place, self.STREAM), [int(k) for k in key])
        halves = [np.broadcast_to(w, (rows, eighth.size)) >> np.uint64(s) & np.uint64(0xFFFF)
                  for w in words for s in (0, 16)]
        draws = np.stack(halves, -1).reshape(rows, -1)[:, :channels]
        kept = torch.from_numpy((draws >= self.threshold).astype(np.float32))
        return x * kept * (65536 / (65536 - self.threshold))


def prefixed(model):
    config = peft.PrefixTuningConfig(num_virtual_tokens=PREFIX_TOKENS, task_type="CAUSAL_LM")
    model = peft.get_peft_model(load_base(model), config)
    weight = model.prompt_encoder["default"].embedding.weight
    with torch.no_grad():
        weight.copy_(torch.from_numpy(synthetic_model.tensor("prompt_embeddings", weight.shape)))
    return model, {"prompt_embeddings": weight}


def in_full(model):
    model = load_base(model)
    parameters = {}
    for name, p in model.named_parameters():
        p.requires_grad_(name.startswith("model.layers."))
        if p.requires_grad:
            parameters[name] = p
    return model, parameters


def adapted(model, what, targets, now=None):
    if targets in (PREFIX, FULL):
        return prefixed(model) if targets == PREFIX else in_full(model)
    dropped = what == DROPPED
    config = peft.LoraConfig(
        r=RANK, lora_alpha=ALPHA, lora_dropout=DROPOUT if dropped else 0.0,
        use_rslora=what in (SCALED, DROPPED),
        bias="none", task_type="CAUSAL_LM",
        target_modules=[p for i, p in enumerate(PROJECTIONS) if targets >> i & 1],
    )
    model = peft.get_peft_model(load_base(model), config)
    for name, module in model.named_modules() if dropped else ():
        part = name.split(".")
        if part[-1] == "lora_dropout":
            layer, projection = int(part[part.index("layers") + 1]), PROJECTIONS.index(part[-2])
            module["default"] = CountedDropout(now, layer, projection)
    parameters = {
        n.replace(".default", ""): p for n, p in model.named_parameters() if p.requires_grad
    }
    with torch.no_grad():
        for name, p in parameters.items():
            p.copy_(torch.from_numpy(synthetic_model.tensor(name, p.shape)))
    return model, parameters


def loss_of(model, sequences, prompts, now=None):
    """Mean over the labelled tokens; one sequence at a time, so nothing is padded."""
    total, count = 0.0, 0
    for ids, prompt in zip(sequences, prompts):
        if now is not None:
            now["row"] += now["rows"]
            now["rows"] = len(ids)
        logits = model(input_ids=torch.tensor([ids])).logits[0]
        labels = torch.tensor(ids[prompt:])
        total = total + torch.nn.functional.cross_entropy(
            logits[prompt - 1 : -1], labels, reduction="sum"
        )
        count += len(labels)
    return total / count


def run_torch(model_dir, what, targets, steps):
    now = {}
    model, parameters = adapted(model_dir, what, targets, now)
    still = [p for p in parameters.values() if targets == FULL and p.dim() == 1]
    moved = [p for p in parameters.values() if targets != FULL or p.dim() > 1]
    groups = [dict(params=moved, weight_decay=DECAY), dict(params=still, weight_decay=0.0)]
    optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=LR, betas=BETAS, eps=EPS)
    losses, gradients = [], None
    for step, (sequences, prompts) in enumerate(steps):
        now.update(step=step, row=0, rows=0)
        optimizer.zero_grad()
        loss = loss_of(model, sequences, prompts, now)
        loss.backward()
        if gradients is None:
            gradients = {n: p.grad.numpy().copy() for n, p in parameters.items()}
        torch.nn.utils.clip_grad_norm_(parameters.values(), CLIP)
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses), gradients


def autocast_error(model_dir, what, targets, step, expected):
    """How far PyTorch's own bf16 gradients are off."""
    model, parameters = adapted(model_dir, what, targets)
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(model, *step)
    loss.backward()
    return gradient_errors({n: p.grad.numpy() for n, p in parameters.items()}, expected)[0]


def seam_done(run_model, model_dir, kind, what, targets, steps, out_dir):
    text = {
        "lora": [0, 0, 0, 0, 0, PREFIX_TOKENS, 0] if targets == PREFIX else
                [0, 0, 0, 0, 0, 0, 1] if targets == FULL else
                [RANK, ALPHA, targets, what in (SCALED, DROPPED),
                 DROPOUT if what == DROPPED else 0, 0, 0],
        "optimizer": [LR, *BETAS, EPS, DECAY, CLIP],
        "lengths": [[len(s) for s in sequences] for sequences, _ in steps],
        "prompts": [prompts for _, prompts in steps],
    }
    for i, (sequences, _) in enumerate(steps):
        text[f"ids.{i}"] = np.concatenate(sequences)
    path = os.path.join(out_dir, "text.safetensors")
    save_file({k: np.asarray(v, dtype=np.float32) for k, v in text.items()}, path)
    return subprocess.run(
        [run_model, "train", model_dir, kind, path, out_dir], capture_output=True, text=True
    )


def run_seam(run_model, model_dir, kind, what, targets, steps, out_dir):
    done = seam_done(run_model, model_dir, kind, what, targets, steps, out_dir)
    if done.returncode == 77:
        return None, None
    if done.returncode != 0:
        sys.exit(f"{run_model}: {done.stderr}")
    losses = np.array([float(line.split()[0]) for line in done.stdout.splitlines()])
    return losses, load_file(os.path.join(out_dir, "grad.safetensors"))


def gradient_errors(got, expected):
    assert set(got) == set(expected), set(got) ^ set(expected)
    squares = [
        (np.square(got[n] - g).sum(dtype=np.float64), np.square(g).sum(dtype=np.float64))
        for n, g in expected.items()
    ]
    whole = np.sqrt(sum(e for e, _ in squares) / sum(n for _, n in squares))
    return whole, max(np.sqrt(e / n) for e, n in squares)


def export_error(model_dir, out_dir, ids):
    """Of Seam's logits against peft with Seam's files, relative to the largest logit."""
    text = torch.tensor([ids])
    with torch.no_grad():
        base = load_base(model_dir)(input_ids=text).logits[0].numpy()
        layers = os.path.join(out_dir, "trained_layers.safetensors")
        if os.path.exists(layers):
            model = load_base(model_dir)
            found = model.load_state_dict(load_torch(layers), strict=False)
            assert not found.unexpected_keys and not any(".layers." in n for n in found.missing_keys)
        else:
            model = peft.PeftModel.from_pretrained(load_base(model_dir), out_dir).eval()
        expected = model(input_ids=text).logits[0].numpy()
    got = np.fromfile(os.path.join(out_dir, "logits.f32"), "<f4").reshape(expected.shape)
    largest = np.abs(expected).max()
    assert np.abs(base - expected).max() > 1e-2 * largest, "the adapter changed nothing"
    return np.abs(got - expected).max() / largest


def check_f32(cells, run_model, name, what, model_dir, targets, steps):
    losses, gradients = run_torch(model_dir, what, targets, steps)
    with tempfile.TemporaryDirectory() as out_dir:
        got, got_gradients = run_seam(run_model, model_dir, "f32", what, targets, steps, out_dir)
        loss = np.abs(got / losses - 1).max()
        whole, worst = gradient_errors(got_gradients, gradients)
        export = export_error(model_dir, out_dir, steps[0][0][0])
    cells[name, what] = max(loss, worst, export)
    passed = cells[name, what] <= BOUNDS["f32"]
    print(f"{name} {what} f32: {len(losses)} steps, loss {losses[0]:.4f} -> {losses[-1]:.4f}, "
          f"off by {loss:.1e}; gradient off by {whole:.1e}, worst tensor {worst:.1e}; "
          f"export in {'transformers' if targets == FULL else 'peft'}: logits off by {export:.1e}" + ("" if passed else "  FAILED"),
          flush=True)
    return passed


def check_bf16(_, run_model, name, what, model_dir, targets, steps):
    with contextlib.ExitStack() as stack:
        rounded = stack.enter_context(tempfile.TemporaryDirectory())
        out_dir = stack.enter_context(tempfile.TemporaryDirectory())
        round_base(model_dir, rounded)
        got, got_gradients = run_seam(run_model, rounded, "bf16", what, targets, steps, out_dir)
        if got is None:
            print(f"{name} {what} bf16: this CPU cannot, skipped")
            return True
        losses, gradients = run_torch(rounded, what, targets, steps)
        peer = autocast_error(rounded, what, targets, steps[0], gradients)
    loss = np.abs(got / losses - 1).max()
    whole, worst = gradient_errors(got_gradients, gradients)
    # The same run against the weights as they were: with the rounding of the weights in it.
    losses_f32, gradients_f32 = run_torch(model_dir, what, targets, steps)
    loss_f32 = np.abs(got / losses_f32 - 1).max()
    whole_f32, worst_f32 = gradient_errors(got_gradients, gradients_f32)
    passed = max(loss, whole) <= BOUNDS["bf16"]
    print(f"{name} {what} bf16: {len(losses)} steps, loss {losses[0]:.4f} -> {losses[-1]:.4f}, "
          f"off by {loss:.1e}; gradient off by {whole:.1e}, worst tensor {worst:.1e} "
          f"(against unrounded weights: loss {loss_f32:.1e}, gradient {whole_f32:.1e}, worst "
          f"tensor {worst_f32:.1e}; PyTorch autocast: {peer:.1e})" + ("" if passed else "  FAILED"),
          flush=True)
    return passed


CHECKS = {"f32": check_f32, "bf16": check_bf16}


def check(kinds, *args):
    return all([CHECKS[kind](*args) for kind in kinds])  # all of them, also after a failure


def check_refused(cells, run_model, name, what, model_dir, targets, steps, words):
    """Seam names what it lacks and trains nothing."""
    with tempfile.TemporaryDirectory() as out_dir:
        done = seam_done(run_model, model_dir, "f32", what, targets, steps, out_dir)
    passed = done.returncode not in (0, 77) and words in done.stderr and done.stdout == ""
    cells[name, what] = "refused" if passed else "FAILED"
    print(f"{name} {what}: " + ("refused: " if passed else "FAILED: not refused: ") +
          (done.stderr.strip() or done.stdout), flush=True)
    return passed


def print_table(cells):
    names = dict.fromkeys(name for name, _ in cells)
    print("\nlargest relative error in f32 of any loss, gradient tensor and exported logit\n")
    print("| model | " + " | ".join(COLUMNS) + " |\n|" + "---|" * (1 + len(COLUMNS)))
    for name in names:
        row = [cells.get((name, what), "") for what in COLUMNS]
        print(f"| {name} | " + " | ".join(c if isinstance(c, str) else f"{c:.1e}" for c in row) + " |")


def tiny_steps(vocab):
    rng = np.random.default_rng(7)
    steps = []
    for _ in range(20):
        lengths = rng.integers(4, 40, 3)
        sequences = [rng.integers(0, vocab, n).tolist() for n in lengths]
        steps.append((sequences, [int(rng.integers(1, n)) for n in lengths]))
    return steps


def gsm8k_steps(model_dir, count, batch):
    gguf = os.path.basename(glob.glob(os.path.join(model_dir, "*.gguf"))[0])
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_dir, gguf_file=gguf)
    with gzip.open(os.path.join(SHARED, "data", "gsm8k", "train.jsonl.gz"), "rt") as f:
        rows = [json.loads(next(f)) for _ in range(count * batch)]
    steps = []
    for i in range(0, len(rows), batch):
        prompts = [tokenizer(r["prompt"])["input_ids"] for r in rows[i : i + batch]]
        answers = [tokenizer(r["completion"])["input_ids"] for r in rows[i : i + batch]]
        steps.append(([p + a for p, a in zip(prompts, answers)], [len(p) for p in prompts]))
    return steps


def check_greedy(run_model, label, model_dir, first_id=3):
    """Ids of Seam's cache, of transformers' generate(), and of whole forward passes."""
    model = load_base(model_dir)
    ids = [first_id]
    with torch.no_grad():
        for _ in range(GENERATED):
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        cached = model.generate(
            torch.tensor([[first_id]]), attention_mask=torch.ones(1, 1), do_sample=False,
            max_new_tokens=GENERATED, min_new_tokens=GENERATED, eos_token_id=None,
        )[0].tolist()
    done = subprocess.run(
        [run_model, "generate", model_dir, "f32", str(first_id), str(GENERATED)],
        capture_output=True, text=True,
    )
    if done.returncode != 0:
        sys.exit(f"{run_model}: {done.stderr}")
    got = [first_id, *map(int, done.stdout.split())]
    passed = got == ids and cached == ids
    print(f"{label} f32: {GENERATED} greedy ids " + ("equal" if passed else f"FAILED: {got}, "
          f"generate() {cached}, forward passes {ids}"), flush=True)
    return passed


def check_adapters(kinds, cells, run_model, name, model_dir, config):
    every, some = TARGETS[config["model_type"]]
    steps = tiny_steps(config["vocab_size"])
    ok = check(kinds, cells, run_model, name, ALL, model_dir, every, steps)
    ok = check(kinds, cells, run_model, name, SOME, model_dir, some, steps) and ok
    for what in (SCALED, DROPPED) if "f32" in kinds else ():
        ok = check_f32(cells, run_model, name, what, model_dir, every, steps) and ok
    if name in NO_PREFIX:
        ok = check_refused(cells, run_model, name, VIRTUAL, model_dir, PREFIX, steps,
                           NO_PREFIX[name]) and ok
    else:
        ok = check(kinds, cells, run_model, name, VIRTUAL, model_dir, PREFIX, steps) and ok
    return check(kinds, cells, run_model, name, BLOCKS, model_dir, FULL, steps) and ok


def check_tiny(kinds, cells, run_model):
    ok = True
    torch.set_num_threads(1)  # more only wait for each other at these sizes
    with tempfile.TemporaryDirectory() as folder:
        maker = os.path.join(HERE, "make_tiny_models.py")
        names = [n for n in make_tiny_models.MODELS if n not in UNLIKE]
        subprocess.run([sys.executable, maker, folder, *names], check=True)
        for name in names:
            model_dir = os.path.join(folder, name)
            with open(os.path.join(model_dir, "config.json")) as f:
                config = json.load(f)
            ok = check_adapters(kinds, cells, run_model, name, model_dir, config) and ok
            ok = check_greedy(run_model, name, model_dir) and ok
    return ok


def check_smol(kinds, cells, run_model, smol):
    steps = gsm8k_steps(smol, 20, 2)
    return check(kinds, cells, run_model, "SmolLM2-135M", ALL, smol, 0x7F, steps)


def kinds_of(text):
    kinds = text.split(",")
    if not set(kinds) <= set(CHECKS):
        raise argparse.ArgumentTypeError(f"{text}: f32, bf16 or both with a comma")
    return kinds


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("run_model")
    parser.add_argument("smol", nargs="?", default=os.environ.get("SEAM_MODEL"))
    parser.add_argument("--only", choices=["tiny", "smol"])
    parser.add_argument("--kinds", type=kinds_of, default=list(CHECKS))
    args = parser.parse_args()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, "
          f"peft {peft.__version__}")
    torch.manual_seed(0)
    cells = {}
    ok = args.only == "smol" or check_tiny(args.kinds, cells, args.run_model)
    skipped = args.only == "tiny"
    if not skipped and (args.smol is None or not os.path.isdir(os.path.join(SHARED, "data", "gsm8k"))):
        print("SmolLM2: SEAM_MODEL or the shared data are absent, skipped")
        skipped = True
    if not skipped:
        torch.set_num_threads(os.cpu_count())
        smol = args.smol if os.path.isdir(args.smol) else os.path.dirname(args.smol)
        ok = check_smol(args.kinds, cells, args.run_model, smol) and ok
    if cells:
        print_table(cells)
    return 1 if not ok else 77 if skipped and args.only == "smol" else 0


if __name__ == "__main__":
    sys.exit(main())
