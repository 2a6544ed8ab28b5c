"""Golden vectors of a quantized prefix from transformers + peft: tests/golden/model/prefix_gates.safetensors
and the model's config.json beside it.

    make_prefix_golden.py           writes them
    make_prefix_golden.py --check   compares them with what it would write

peft's prefix tuning on a small random model (synthetic_model.py), its table behind a quantizer written in
torch.  Each case has gates of other widths and another text: the loss, the prefix's gradient and that of the
gates, by both signals.  The exact one is autograd's: codes round straight through and the step D of the grid is
a function of the width, so that nothing of the formulas of SPEC 3.1 is in it; bounds of the grid are those of
wire_numpy.  tests/golden/test_model_golden.c does the same in C.
"""
import os
import sys

import numpy as np
import peft
import torch
import transformers
from safetensors.numpy import save_file

import make_model_golden as golden
import synthetic_model
from wire_numpy import affine, gates

NAME, TOKENS = "prefix_gates", 7
CASE = dict(vocab=97, hidden=78, intermediate=101, layers=3, heads=6, kv_heads=2, head_dim=20, context=64,
            eps=1e-5, theta=10000.0, tied=0, rank=0, alpha=0, targets=0)
CHANNELS = 2 * CASE["kv_heads"] * CASE["head_dim"]  # features of a key, then of a value
LOW, HIGH = 1.0, 16.0
# Q of channel c is first + slope * c: widths of 1 to 4, of 1 to 11, of 8 as sessions start.
GATES = ((-3.2, 0.02), (-3.5, 0.05), (float(np.log(7.0 / 8.0)), 0.0))


def gate_values(case):
    first, slope = (np.float32(x) for x in GATES[case])
    return (first + slope * np.arange(CHANNELS, dtype=np.float32)).astype(np.float32)


def widths_of(q):
    """Keys and values are two modules: each has its own total."""
    bits = LOW + (HIGH - LOW) / (1.0 + np.exp(-q.astype(np.float64)))
    return np.concatenate([gates.integer_widths(half, LOW, HIGH) for half in np.split(bits, 2)])


class Quantizer(torch.nn.Module):
    """A parametrization of peft's table (tokens, layers * key | value)."""

    def __init__(self, widths):
        super().__init__()
        self.widths = torch.nn.Parameter(torch.from_numpy(widths.astype(np.float32)))

    def forward(self, table):
        x = table.reshape(-1, CHANNELS)
        ranges = affine.measure(x.detach().numpy())
        lo, step, levels = (torch.from_numpy(np.ascontiguousarray(a)) for a in
                            affine.grid(ranges, self.widths.detach().numpy()))
        self.step = step.numpy()
        span = step * levels
        D = span / (torch.exp2(self.widths) - 1.0)
        t = (x - lo) / D
        whole = torch.minimum(torch.round((x - lo) * (1.0 / step)).clamp(min=0.0), levels)
        return (lo + (t + (whole - t).detach()) * D).reshape(table.shape)


def build(case):
    config = golden.config_of(CASE)
    config._attn_implementation = "eager"
    model = transformers.LlamaForCausalLM(config).to(torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(synthetic_model.tensor(name, parameter.shape)))
    model = peft.get_peft_model(model, peft.PrefixTuningConfig(num_virtual_tokens=TOKENS, task_type="CAUSAL_LM"))
    table = model.prompt_encoder["default"].embedding
    with torch.no_grad():
        table.weight.copy_(torch.from_numpy(synthetic_model.tensor("prompt_embeddings", table.weight.shape)))
    quantizer = Quantizer(widths_of(gate_values(case)))
    torch.nn.utils.parametrize.register_parametrization(table, "weight", quantizer)
    return model, table.parametrizations.weight.original, quantizer


def run():
    out = {"losses": [], "lengths": [], "prompts": [], "gates": GATES, "tokens": [TOKENS]}
    for case in range(len(GATES)):
        model, table, quantizer = build(case)
        ids, lengths, prompts = golden.step_text(CASE, case)
        batch, mask, labels = golden.padded(ids, prompts)
        logits = model(input_ids=batch, attention_mask=mask).logits.float()
        labelled = (labels[:, 1:] != -100).sum().item()
        loss = torch.nn.functional.cross_entropy(
            logits[:, :-1].reshape(-1, CASE["vocab"]), labels[:, 1:].reshape(-1), ignore_index=-100)
        loss.backward()
        gradient = table.grad.numpy()
        widths = quantizer.widths.detach().numpy()
        out["losses"].append(loss.item())
        out["lengths"].append(lengths)
        out["prompts"].append(prompts)
        out[f"widths.{case}"] = widths
        out[f"grad.{case}.prompt_embeddings"] = gradient.copy()
        out[f"exact.{case}"] = quantizer.widths.grad.numpy()
        out[f"surrogate.{case}"] = gates.gradient_surrogate(
            gradient.reshape(-1, CHANNELS), quantizer.step, widths, labelled)
    keys = ["vocab", "hidden", "intermediate", "layers", "heads", "kv_heads", "head_dim", "context", "eps",
            "theta", "tied", "rank", "alpha", "targets"]
    out["case"] = [CASE[k] for k in keys]
    out["optimizer"] = [*golden.OPTIMIZER.values(), len(GATES), 0]
    return {k: np.ascontiguousarray(np.asarray(v, dtype=np.float32)) for k, v in out.items()}


def main(check):
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", "model")
    config, path = (os.path.join(folder, f"{NAME}.{kind}") for kind in ("json", "safetensors"))
    vectors = run()
    if check:
        with open(config) as f:
            same = f.read() == golden.config_json(CASE)
        off = golden.difference(vectors, path)
        print(f"{path}: off by {off:.1e}, config " + ("the same" if same else "another  FAILED"))
        return 0 if same and off <= 1e-5 else 1
    with open(config, "w") as f:
        f.write(golden.config_json(CASE))
    save_file(vectors, path, metadata={"torch": torch.__version__, "transformers": transformers.__version__,
                                       "peft": peft.__version__, "numpy": np.__version__})
    for case in range(len(GATES)):
        widths = vectors[f"widths.{case}"]
        exact, surrogate = (np.abs(vectors[f"{kind}.{case}"]).sum() for kind in ("exact", "surrogate"))
        print(f"case {case}: widths {widths.min():.0f}..{widths.max():.0f}, loss {vectors['losses'][case]:.6f}, "
              f"sum |dL/db| exact {exact:.3e}, surrogate {surrogate:.3e}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] == ["--check"]))
