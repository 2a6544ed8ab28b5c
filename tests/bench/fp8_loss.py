#!/usr/bin/env python3
"""Where the loss of FP8 products comes from, by emulation in PyTorch on the CPU.

    fp8_loss.py MODEL.gguf ROWS.jsonl.gz COUNT VARIANT ... [--adapter DIR]

Operands of the frozen linears are rounded to e4m3 as kernels/include/ops.h says (a row's scale is
the least power of two that keeps its largest magnitude within 448), sums stay in f32.  The loss is that of the completions of
COUNT rows.  A variant is PART[/PROJECTIONS[/LAYERS]]: PART of w (weights), a (activations), wa;
projections joined by +, ! before them for all others; layers as 0-3+29, ! likewise.  The weights'
scale is the rule's, or by -s of PART (ws, was) the one of 32 in [1, 2) times it with the least
squared error of the row.  Printed: loss, change against no rounding in percent, and the change's
standard error by rows."""
import argparse
import gzip
import json
import math
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

PROJECTIONS = ["q", "k", "v", "o", "gate", "up", "down"]
CANDIDATES = 32


def rule_scale(x):
    largest = x.abs().amax(dim=-1, keepdim=True).clamp_min(2.0 ** -100)
    return torch.exp2(torch.ceil(torch.log2(largest / 448.0)))


def round_at(x, scale):
    return (x / scale).to(torch.float8_e4m3fn).to(x.dtype) * scale


def rounded(x):
    return round_at(x, rule_scale(x))


def rounded_by_error(w):
    """The rows of w, each at the candidate scale of least squared error."""
    base = rule_scale(w)
    best, least = rounded(w), None
    for i in range(CANDIDATES):
        at = round_at(w, base * 2.0 ** (i / CANDIDATES))
        error = (at - w).square().sum(dim=-1, keepdim=True)
        if least is None:
            best, least = at, error
        else:
            best = torch.where(error < least, at, best)
            least = torch.minimum(error, least)
    return best


def chosen(text, all_of):
    """The members of all_of that a list joined by + names, or with ! does not."""
    names = set()
    for part in text.lstrip("!").split("+"):
        ends = part.split("-")
        names |= {str(i) for i in range(int(ends[0]), int(ends[-1]) + 1)} if ends[0].isdigit() \
            else {part}
    return {x for x in all_of if (x in names) != text.startswith("!")}


class Frozen(torch.nn.Module):
    """A frozen linear whose operands may be rounded; LoRA beside it reads x as it is."""

    def __init__(self, linear, lora):
        super().__init__()
        self.exact, self.bias, self.lora = linear.weight.data, linear.bias, lora
        self.part = ""

    def set(self, part):
        self.part = part
        self.weight = self.exact if "w" not in part else \
            rounded_by_error(self.exact) if "s" in part else rounded(self.exact)

    def forward(self, x):
        y = torch.nn.functional.linear(rounded(x) if "a" in self.part else x, self.weight,
                                       self.bias)
        if self.lora is not None:
            a, b, scale = self.lora
            y = y + scale * ((x @ a.T) @ b.T)
        return y


def adapter_read(folder):
    if folder is None:
        return {}, 0.0
    from safetensors.torch import load_file
    config = json.load(open(folder + "/adapter_config.json", encoding="utf-8"))
    return load_file(folder + "/adapter_model.safetensors"), config["lora_alpha"] / config["r"]


def linears_wrap(model, adapter, scale):
    found = {}
    for i, layer in enumerate(model.model.layers):
        for name in PROJECTIONS:
            home = layer.self_attn if name in "qkvo" else layer.mlp
            key = f"{'self_attn' if name in 'qkvo' else 'mlp'}.{name}_proj"
            lora = None
            for tensor in adapter:
                if f"layers.{i}.{key}.lora_A" in tensor:
                    lora = (adapter[tensor].float(),
                            adapter[tensor.replace("lora_A", "lora_B")].float(), scale)
            frozen = Frozen(getattr(home, name + "_proj"), lora)
            frozen.set("")
            setattr(home, name + "_proj", frozen)
            found[(name, str(i))] = frozen
    return found


def texts_read(path, count, tokenizer):
    rows = []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            prompt = tokenizer(row["prompt"], add_special_tokens=False).input_ids
            ids = tokenizer(row["prompt"] + row["completion"], add_special_tokens=False).input_ids
            rows.append((ids + [tokenizer.eos_token_id], len(prompt)))
            if len(rows) == count:
                break
    return rows


@torch.no_grad()
def scores(model, rows, exact):
    """Of each row: sums of loss and of divergence from `exact`, which is filled in when empty."""
    sums, divergences = [], []
    fill = not exact
    for i, (ids, begin) in enumerate(rows):
        x = torch.tensor([ids])
        hidden = model.model(x).last_hidden_state[0, begin - 1:-1]
        log = torch.log_softmax(model.lm_head(hidden), dim=-1)
        if fill:
            exact.append(log)
        sums.append(-log.gather(1, x[0, begin:, None]).sum().item())
        divergences.append((exact[i].exp() * (exact[i] - log)).sum().item())
    return torch.tensor(sums), torch.tensor(divergences)


def share_print(of_rows, counts, mean):
    """The mean a token, in percent of the loss, and its standard error."""
    per_token = of_rows.sum() / counts.sum()
    error = (of_rows - counts * per_token).std() * math.sqrt(len(counts)) / counts.sum()
    return f"{100 * per_token / mean:+.2f} (+- {100 * error / mean:.2f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("rows")
    parser.add_argument("count", type=int)
    parser.add_argument("variants", nargs="*")
    parser.add_argument("--adapter")
    args = parser.parse_args()
    folder, _, file = args.model.rpartition("/")
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
    model.eval()
    frozen = linears_wrap(model, *adapter_read(args.adapter))
    layers = [str(i) for i in range(len(model.model.layers))]
    rows = texts_read(args.rows, args.count, tokenizer)
    counts = torch.tensor([len(ids) - begin for ids, begin in rows])
    exact = []
    base = scores(model, rows, exact)[0]
    mean = (base.sum() / counts.sum()).item()
    print(f"none: {mean:.4f}, {len(rows)} rows, {counts.sum()} tokens", flush=True)
    for variant in args.variants:
        part, projections, at = (variant.split("/") + ["", ""])[:3]
        names = chosen(projections or "!", PROJECTIONS)
        where = chosen(at or "!", layers)
        for (name, layer), linear in frozen.items():
            linear.set(part if name in names and layer in where else "")
        began = time.monotonic()
        sums, divergences = scores(model, rows, exact)
        print(f"{variant}: divergence {share_print(divergences, counts, mean)} %, loss "
              f"{share_print(sums - base, counts, mean)} %, {time.monotonic() - began:.0f} s",
              flush=True)


main()
