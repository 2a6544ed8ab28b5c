#!/usr/bin/env python3
"""Where the loss of FP8 products comes from, by emulation in PyTorch on the CPU.

    fp8_loss.py MODEL.gguf ROWS.jsonl.gz COUNT VARIANT ... [--adapter DIR] [--gradients]

Operands of the frozen linears are rounded to e4m3 as kernels/include/ops.h says, sums stay in f32.
The loss is that of the completions of COUNT rows.  A variant is FORWARD[:BACKWARD], either of them
PART[/PROJECTIONS[/LAYERS]]: PART names the operands that are rounded, w (weights), x (rows: inputs
forward, gradients backward), y (rows to e5m2), each followed by the count of scales in [s, 2 s)
that the one of least squared error of a row is chosen from, s the row's largest magnitude / 448 [1:
s; 0: the least power of two from s on, the rule before]; projections joined by +, ! before them for
all others; layers as 0-3+29, ! likewise.  q, k and v, gate and up are rounded alone here, not
stacked.  Printed: divergence of the next token's distribution from the unrounded model's and change
of the loss, both in percent of the loss, with standard errors by rows.

--gradients: beside them the gradients of LoRA's B on q and v (rank 16, B = 0, A by a seed), of
each row's mean loss: error of a row's gradient, by its norm, and `in common`, what all rows' errors
share (pairs of rows: sum of <e_i, e_j> over sum of <g_i, g_j>, its root), which no step averages
away."""
import argparse
import gzip
import json
import math
import re
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

PROJECTIONS = ["q", "k", "v", "o", "gate", "up", "down"]
E4M3_MAX = 448.0
E5M2_MAX = 57344.0


def round_at(x, scale, kind=torch.float8_e4m3fn):
    return (x / scale).to(kind).to(x.dtype) * scale


def rounded(x, count, kind=torch.float8_e4m3fn):
    """The rows of x, each at the candidate scale of least squared error."""
    most = E4M3_MAX if kind == torch.float8_e4m3fn else E5M2_MAX
    base = x.abs().amax(dim=-1, keepdim=True).clamp_min(2.0 ** -100) / most
    if count == 0:
        base = torch.exp2(torch.ceil(torch.log2(base)))
    best, least = round_at(x, base, kind), None
    for i in range(count if count > 1 else 0):
        at = round_at(x, base * (1 + i / count), kind)
        error = (at - x).square().sum(dim=-1, keepdim=True)
        best = at if least is None else torch.where(error < least, at, best)
        least = error if least is None else torch.minimum(error, least)
    return best


class Part:
    """What is rounded of a product's operands."""

    def __init__(self, text):
        self.count = {m[1]: int(m[2] or "1") for m in re.finditer(r"([wxy])(\d*)", text)}

    def weights(self, w):
        return rounded(w, self.count["w"]) if "w" in self.count else w

    def rows(self, x):
        if "y" in self.count:
            return rounded(x, self.count["y"], torch.float8_e5m2)
        return rounded(x, self.count["x"]) if "x" in self.count else x


class Product(torch.autograd.Function):
    """x W^T with each direction's own rounded operands."""

    @staticmethod
    def forward(ctx, x, linear):
        ctx.linear = linear
        return torch.nn.functional.linear(linear.part[0].rows(x), linear.weight[0], linear.bias)

    @staticmethod
    def backward(ctx, dy):
        return ctx.linear.part[1].rows(dy) @ ctx.linear.weight[1], None


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
        self.text, self.part, self.weight = ["", ""], [Part(""), Part("")], [self.exact] * 2

    def set(self, backward, text):
        if text == self.text[backward]:
            return
        self.text[backward] = text
        self.part[backward] = part = Part(text)
        self.weight[backward] = part.weights(self.exact.T).T if backward else \
            part.weights(self.exact)

    def forward(self, x):
        y = Product.apply(x, self)
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


def lora_begin(frozen):
    """Pairs of rank 16 on q and v with B = 0; the Bs."""
    made = torch.Generator().manual_seed(1)
    found = []
    for (name, _), linear in frozen.items():
        if name in "qv":
            out, width = linear.exact.shape
            a = (torch.rand(16, width, generator=made) * 2 - 1) / math.sqrt(width)
            b = torch.zeros(out, 16, requires_grad=True)
            linear.lora = (a, b, 1.0)
            found.append(b)
    return found


def gradients(model, rows, bs):
    """A row of each text's gradients."""
    ret = []
    for ids, begin in rows:
        x = torch.tensor([ids])
        hidden = model.model(x).last_hidden_state[0, begin - 1:-1]
        loss = torch.nn.functional.cross_entropy(model.lm_head(hidden), x[0, begin:])
        ret.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, bs)]))
    return torch.stack(ret)


def in_common(x):
    return x.sum(dim=0).square().sum() - x.square().sum()


def gradients_print(now, exact):
    error = now - exact
    apart = (error.norm(dim=1) / exact.norm(dim=1)).mean().item()
    common = max(0.0, (in_common(error) / in_common(exact)).item())
    return f", gradients {100 * apart:.2f} % apart, {100 * math.sqrt(common):.2f} % in common"


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
    parser.add_argument("--gradients", action="store_true")
    args = parser.parse_args()
    folder, _, file = args.model.rpartition("/")
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
    model.eval().requires_grad_(False)
    frozen = linears_wrap(model, *adapter_read(args.adapter))
    layers = [str(i) for i in range(len(model.model.layers))]
    rows = texts_read(args.rows, args.count, tokenizer)
    counts = torch.tensor([len(ids) - begin for ids, begin in rows])
    exact = []
    base = scores(model, rows, exact)[0]
    mean = (base.sum() / counts.sum()).item()
    print(f"none: {mean:.4f}, {len(rows)} rows, {counts.sum()} tokens", flush=True)
    bs = lora_begin(frozen) if args.gradients else []
    exact_gradients = gradients(model, rows, bs) if args.gradients else None
    for variant in args.variants:
        for backward, direction in enumerate((variant.split(":") + [""])[:2]):
            part, projections, at = (direction.split("/") + ["", ""])[:3]
            names = chosen(projections or "!", PROJECTIONS)
            where = chosen(at or "!", layers)
            for (name, layer), linear in frozen.items():
                linear.set(backward, part if name in names and layer in where else "")
        began = time.monotonic()
        sums, divergences = scores(model, rows, exact)
        apart = gradients_print(gradients(model, rows, bs), exact_gradients) if bs else ""
        print(f"{variant}: divergence {share_print(divergences, counts, mean)} %, loss "
              f"{share_print(sums - base, counts, mean)} %{apart}, "
              f"{time.monotonic() - began:.0f} s", flush=True)


main()
