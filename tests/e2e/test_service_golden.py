"""Training through seamd equals transformers + peft.

The vectors of tests/golden/model (made by tests/oracle/make_model_golden.py in f32) are run as
sessions: the adapter of the oracle is imported, 20 steps of two micro-batches go over the Train
stream with f32 frames, embedding and head are NumPy's (float64).  Losses and gradient norms of all
steps within 1e-4 relative, every LoRA gradient of step 0 within 1e-4 relative Frobenius.

A gradient is read from the API by a step of AdamW with eps = 1 and lr = 100, which moves a
parameter by u = 100 * g / (|g| + 1): g = u / (100 - |u|).
"""
import json
import pathlib
import sys

import numpy as np
from safetensors.numpy import load, load_file, save, save_file

from service_fixture import SOURCE, Seamd, grpc, run_cases
from service_trainer import Micro, Trainer
from test_service_generate import export, import_files
from test_service_unary import session_config

sys.path.insert(0, str(SOURCE / "tests" / "oracle"))
import synthetic_model  # noqa: E402  pylint: disable=wrong-import-position

PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
KEYS = ["vocab", "hidden", "intermediate", "layers", "heads", "kv_heads", "head_dim", "context",
        "eps", "theta", "tied", "rank", "alpha", "targets"]


def read_case(name):
    golden = load_file(str(SOURCE / "tests" / "golden" / "model" / f"{name}.safetensors"))
    case = {k: float(v) if k in ("eps", "theta", "alpha") else int(v)
            for k, v in zip(KEYS, golden["case"])}
    return golden, case


def write_synthetic(folder: pathlib.Path, case):
    hidden, heads, kv, d = (case[k] for k in ("hidden", "heads", "kv_heads", "head_dim"))
    shapes = {"model.embed_tokens.weight": (case["vocab"], hidden), "model.norm.weight": (hidden,)}
    for layer in range(case["layers"]):
        at = f"model.layers.{layer}."
        shapes |= {at + "input_layernorm.weight": (hidden,),
                   at + "post_attention_layernorm.weight": (hidden,),
                   at + "self_attn.q_proj.weight": (heads * d, hidden),
                   at + "self_attn.k_proj.weight": (kv * d, hidden),
                   at + "self_attn.v_proj.weight": (kv * d, hidden),
                   at + "self_attn.o_proj.weight": (hidden, heads * d),
                   at + "mlp.gate_proj.weight": (case["intermediate"], hidden),
                   at + "mlp.up_proj.weight": (case["intermediate"], hidden),
                   at + "mlp.down_proj.weight": (hidden, case["intermediate"])}
    if not case["tied"]:
        shapes["lm_head.weight"] = (case["vocab"], hidden)
    folder.mkdir(parents=True)
    tensors = {name: synthetic_model.tensor(name, shape) for name, shape in shapes.items()}
    save_file({k: np.ascontiguousarray(v, np.float32) for k, v in tensors.items()},
              str(folder / "model.safetensors"))
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden,
        "intermediate_size": case["intermediate"], "num_hidden_layers": case["layers"],
        "num_attention_heads": heads, "num_key_value_heads": kv, "head_dim": d,
        "vocab_size": case["vocab"], "max_position_embeddings": case["context"],
        "rms_norm_eps": case["eps"], "rope_theta": case["theta"],
        "tie_word_embeddings": bool(case["tied"]), "hidden_act": "silu",
        "attention_bias": False, "mlp_bias": False, "bos_token_id": 1, "eos_token_id": 2}))


class GoldenTrainer(Trainer):
    """Head and norm of the case, whose epsilon and untied head Trainer does not know."""

    def __init__(self, channel, folder, config, case):
        super().__init__(channel, folder, config)
        tensors = load_file(str(folder / "model.safetensors"))
        self.head_weight = tensors.get("lm_head.weight", self.embedding).astype(np.float64)
        self.eps = case["eps"]

    def head(self, h, targets, labelled_count):
        h = h.astype(np.float64)
        rstd = 1 / np.sqrt((h * h).mean(1, keepdims=True) + self.eps)
        logits = (h * rstd * self.norm) @ self.head_weight.T
        logits -= logits.max(1, keepdims=True)
        p = np.exp(logits)
        p /= p.sum(1, keepdims=True)
        rows = np.arange(len(targets))
        loss = -np.log(p[rows, targets]).sum()
        p[rows, targets] -= 1
        dn = (p / labelled_count) @ self.head_weight * self.norm
        dh = rstd * (dn - h * rstd * rstd * (dn * h).mean(1, keepdims=True))
        return loss, dh.astype(np.float32)


def step_micros(golden, case, step):
    """The oracle's three padded sequences as two micro-batches without padding."""
    lengths = golden["lengths"][step].astype(int)
    prompts = golden["prompts"][step].astype(int)
    ids = (synthetic_model.words(f"ids.{step}", int(lengths.sum())) % case["vocab"]).astype(int)
    texts = np.split(ids, np.cumsum(lengths)[:-1])
    micros = []
    for chosen in ([0], [1, 2]):
        micro = Micro([texts[i] for i in chosen], prompt=0)
        labelled, targets, row = [], [], 0
        for i in chosen:
            for t in range(max(prompts[i] - 1, 0), lengths[i] - 1):
                labelled.append(row + t)
                targets.append(texts[i][t + 1])
            row += lengths[i]
        bits = np.zeros(row, np.uint8)
        bits[labelled] = 1
        micro.labelled, micro.targets = labelled, targets
        micro.bitmap = np.packbits(bits, bitorder="little").tobytes()
        micros.append(micro)
    return micros


def session_of(ch, folder, golden, case, gradient_probe=False):
    from seam.v1 import types_pb2 as types
    config = session_config(codec=types.CODEC_F32)
    chosen = [i for i in range(7) if case["targets"] >> i & 1]
    config.lora.rank, config.lora.alpha = case["rank"], case["alpha"]
    config.lora.ClearField("targets")
    config.lora.targets.extend(i + 1 for i in chosen)
    config.limits.rows_per_micro_max = 96
    lr, beta1, beta2, eps, decay, clip, warmup, steps, _ = (float(v) for v in golden["optimizer"])
    if gradient_probe:
        config.optimizer.CopyFrom(types.OptimizerConfig(
            lr=100, beta1=0, beta2=0, eps=1, schedule=types.SCHEDULE_CONSTANT))
    else:
        config.optimizer.CopyFrom(types.OptimizerConfig(
            lr=lr, beta1=beta1, beta2=beta2, eps=eps, weight_decay=decay, clip_norm=clip,
            schedule=types.SCHEDULE_COSINE, warmup_steps=int(warmup), total_steps=int(steps)))
    trainer = GoldenTrainer(ch, folder, config, case)
    files, _ = export(trainer)
    tensors = {name: np.ascontiguousarray(synthetic_model.tensor(name, value.shape), np.float32)
               for name, value in load(files["adapter_model.safetensors"]).items()}
    import_files(trainer, files | {"adapter_model.safetensors": save(tensors)}, chunk=1 << 20)
    return trainer, tensors


def check_case(binary, folder, name):
    golden, case = read_case(name)
    at = folder / name
    write_synthetic(at / "model", case)
    with Seamd(binary, at / "model") as server, grpc.insecure_channel(server.address) as ch:
        trainer, _ = session_of(ch, at / "model", golden, case)
        stream, _ = trainer.attach()
        worst_loss = worst_norm = 0
        for step in range(len(golden["losses"])):
            loss, commit = trainer.step(stream, step_micros(golden, case, step))
            worst_loss = max(worst_loss, abs(loss / golden["losses"][step] - 1))
            worst_norm = max(worst_norm, abs(commit.grad_norm / golden["norms"][step] - 1))
        stream.close()

        trainer, before = session_of(ch, at / "model", golden, case, gradient_probe=True)
        stream, _ = trainer.attach()
        trainer.step(stream, step_micros(golden, case, 0))
        after = load(export(trainer)[0]["adapter_model.safetensors"])
        worst_gradient = 0
        for key, value in before.items():
            u = value.astype(np.float64) - after[key]
            gradient, expected = u / (100 - np.abs(u)), golden[f"grad.0.{key}"]
            worst_gradient = max(worst_gradient, np.linalg.norm(gradient - expected) /
                                 np.linalg.norm(expected))
        print(f"  {name}: relative errors: loss {worst_loss:.1e}, gradient norm {worst_norm:.1e}, "
              f"worst LoRA gradient {worst_gradient:.1e}")
        assert len(before) == 2 * case["layers"] * bin(case["targets"]).count("1")
        assert worst_loss < 1e-4 and worst_norm < 1e-4 and worst_gradient < 1e-4


def test_untied_head20__all_targets__as_transformers(binary, folder):
    check_case(binary, folder, "untied_head20")


def test_tied_head64__q_and_v__as_transformers(binary, folder):
    check_case(binary, folder, "tied_head64")


if __name__ == "__main__":
    sys.exit(run_cases(globals()))
