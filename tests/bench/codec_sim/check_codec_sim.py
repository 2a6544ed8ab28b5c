#!/usr/bin/env python3
"""Holds codec_sim's parts against other implementations of them, on the CPU.

    check_codec_sim.py [DIR [MODEL.gguf]]

Ranges, codes, values, gates, gate gradients and integer widths against tests/oracle/wire_numpy,
to the bit where that is defined.  With DIR (what prepare.py wrote): the model of the parts against
transformers' own reading of MODEL.gguf and a loss and its adapter gradients against peft, in f32.
"""
import os
import sys

import numpy as np
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "oracle"))

import allocation  # noqa: E402
import codecs_torch as codecs  # noqa: E402
import gguf_numpy  # noqa: E402
import llama_fleet  # noqa: E402
import payload  # noqa: E402
from wire_numpy import affine, gates  # noqa: E402
from wire_numpy.bits import pack  # noqa: E402
from wire_numpy.rounding import Rounding  # noqa: E402


def same(name, ours, theirs):
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if ours.shape != theirs.shape or not np.array_equal(ours, theirs):
        wrong = np.flatnonzero(np.broadcast_to(ours != theirs, theirs.shape))
        raise AssertionError(f"{name}: {len(wrong)} of {theirs.size} values differ")
    print(f"{name}: equal, {theirs.size} values")


def close(name, ours, theirs, relative):
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    off = np.linalg.norm(ours - theirs) / max(np.linalg.norm(theirs), 1e-300)
    if not off <= relative:
        raise AssertionError(f"{name}: off by {off:.2e}, allowed {relative:.0e}")
    print(f"{name}: within {off:.1e}")


def check_affine(rng):
    runs, rows, channels = 3, 70, 24
    for scale in (1.0, 1e-8, 3e4):
        x = (rng.standard_normal((runs, rows, channels)) * scale).astype(np.float32)
        x *= np.exp(rng.standard_normal(channels)).astype(np.float32)
        x[0, :, 3] = np.float32(0.75 * scale)  # constant
        x[1, :, 5] = 0.0
        widths = rng.integers(1, 9, (runs, channels))
        u = Rounding(True, 5, 7, 2).uniform(np.arange(rows), channels)
        lo, hi = codecs.ranges(torch.from_numpy(x))
        step, levels = codecs.grid(lo, hi, torch.from_numpy(widths).float())
        for stochastic in (False, True):
            draws = torch.from_numpy(u) if stochastic else None
            q = codecs.affine_codes(torch.from_numpy(x), lo, step, levels, draws)
            values = codecs.affine_values(q.clone(), lo, step)
            expected, expected_values = [], []
            for r in range(runs):
                block = affine.measure(x[r])
                rounding = Rounding(True, 5, 7, 2) if stochastic else None
                codes = affine.quantize(x[r], block, widths[r], rounding)
                expected.append(codes)
                expected_values.append(affine.dequantize(codes, block, widths[r]))
                payload_bytes = len(block) + len(pack(codes, widths[r]))
                counted, _ = payload.tensor_bytes(rows, int(widths[r].sum()),
                                                  payload.side_bytes("affine", rows, channels, 8))
                same("payload bytes", counted, payload_bytes)
            kind = "stochastic" if stochastic else "nearest"
            same(f"codes, {kind}, scale {scale:g}", q.numpy(), np.stack(expected))
            same(f"values, {kind}, scale {scale:g}", values.numpy(), np.stack(expected_values))
    check_entropy(q, torch.from_numpy(widths).float())


def check_entropy(q, widths):
    bits = codecs.entropy_bits(q, widths)
    for r in range(len(q)):
        expected = 0.0
        for width in np.unique(widths[r]):
            codes = q[r][:, widths[r] == width].numpy().astype(int).ravel()
            share = np.bincount(codes)[np.unique(codes)] / len(codes)
            expected -= len(codes) * np.sum(share * np.log2(share))
        close("entropy", bits[r].item(), expected, 1e-9)


def check_gates(rng):
    channels = 40
    for low, high, start, loss in ((1, 16, 8, "l2"), (1, 8, 6, "l2")):
        ours = allocation.Gates(channels, *(torch.tensor([[float(v)]], dtype=torch.float64)
                                            for v in (low, high, start)))
        theirs = gates.Gates(channels, low, high, start, loss)
        for _ in range(50):
            db = rng.standard_normal(channels) * 1e-3
            pressure = 0.02 * 2.0 * ours.bits() / channels
            ours.step(torch.from_numpy(db)[None], 1e-2, pressure)
            theirs.step(db, 1e-2, 0.02, True)
        close(f"gates {low}..{high}", ours.bits()[0], theirs.bits(), 1e-6)
        bits = rng.uniform(low, high, (4, channels)).astype(np.float32)
        bits[1] = bits[1].round()
        bits[2] = 3.5
        one = torch.ones(4, 1, dtype=torch.float64)
        widths = allocation.integer_widths(torch.from_numpy(bits), low * one, high * one)
        same("integer widths", widths.numpy(),
             np.stack([gates.integer_widths(b, low, high) for b in bits]))
    g, x = (rng.standard_normal((2, 33, channels)).astype(np.float32) for _ in range(2))
    decoded, widths = x + np.float32(0.01) * g, rng.integers(1, 9, (2, channels))
    step = rng.uniform(0.1, 1, (2, channels)).astype(np.float32)
    t = [torch.from_numpy(v) for v in (g, x, decoded)]
    exact = codecs.gradient_exact(*t, torch.from_numpy(widths).float())
    squares = t[0].square().sum(dim=1)
    surrogate = codecs.gradient_surrogate(squares, torch.from_numpy(step),
                                          torch.from_numpy(widths).float(), 33)
    for r in range(2):
        close("exact signal", exact[r],
              gates.gradient_exact(g[r], x[r], decoded[r], widths[r]), 1e-5)
        close("surrogate signal", surrogate[r],
              gates.gradient_surrogate(g[r], step[r], widths[r], 33), 1e-5)


def check_waterfill(rng):
    channels = 576
    run = {"mode": "waterfill", "bits": 3, "start": 6.0, "ramp": 0.4, "loss": "l2", "beta": 0.0,
           "in_site": 1.0}
    a = allocation.Allocation([run], channels, 100, "cpu")
    a.weigh(1500, 900)
    for site in range(2):
        a.observe(site, torch.from_numpy(np.exp(3 * rng.standard_normal((1, channels)))), 1,
                  torch.from_numpy(np.exp(rng.standard_normal((1, channels)))))
    for step in range(100):
        a.after_step(step, [torch.zeros(1, channels, dtype=torch.float64)] * 2)
    means = [w.mean().item() for w in a.widths]
    mean = (1500 * means[0] + 900 * means[1]) / 2400
    close("waterfill lands on the target", mean, 3.0, 5e-4)


def check_model(folder, gguf):
    import peft
    import transformers
    config, weights = gguf_numpy.load_parts([f"{folder}/model.{i}.part" for i in range(2)])
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        os.path.dirname(gguf), gguf_file=os.path.basename(gguf), dtype=torch.float32)
    state = theirs.state_dict()
    for ours, name in (("token_embd", "embed_tokens"),
                       ("blk.3.attn_q", "layers.3.self_attn.q_proj"),
                       ("blk.29.attn_k", "layers.29.self_attn.k_proj"), ("output_norm", "norm"),
                       ("blk.7.ffn_down", "layers.7.mlp.down_proj")):
        same(name, weights[ours], state[f"model.{name}.weight"].numpy())
    model = llama_fleet.Llama(config, weights, "cpu", torch.float32)
    with np.load(f"{folder}/tokens.npz") as arrays:
        ids, begins = arrays["gsm8k.train.ids"], arrays["gsm8k.train.begins"]
        prompts = arrays["gsm8k.train.prompts"]
        sequences = [(ids[begins[i]:begins[i + 1]].tolist(), int(prompts[i])) for i in range(2)]
    batch = llama_fleet.Batch(sequences, "cpu")
    adapters = model.adapters(2, 1)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for layer in adapters:  # run 1 has other adapters than run 0, which is the base model
            for name in ("q", "v"):
                b = torch.randn(layer[name].shape[1:], generator=generator) * 0.02
                layer[name][1].copy_(b)
    x = model.embed(batch)[None].expand(2, -1, -1).clone().requires_grad_()
    h = model.blocks(x, adapters, batch).index_select(1, batch.labelled)
    losses, g = model.head(h, batch.targets, True)
    h.backward(g)
    compare_peft(peft, theirs, adapters, sequences, losses.mean(dim=1))


def compare_peft(peft, theirs, adapters, sequences, losses):
    base = peft.get_peft_model(theirs, peft.LoraConfig(
        r=16, lora_alpha=16, lora_dropout=0.0, task_type="CAUSAL_LM",
        target_modules=["q_proj", "v_proj"]))
    longest = max(len(ids) for ids, _ in sequences)
    ids = torch.zeros(len(sequences), longest, dtype=torch.long)
    labels, mask = torch.full_like(ids, -100), torch.zeros_like(ids)
    for i, (tokens, prompt) in enumerate(sequences):
        ids[i, :len(tokens)], mask[i, :len(tokens)] = torch.tensor(tokens), 1
        labels[i, prompt:len(tokens)] = torch.tensor(tokens[prompt:])
    parameters = {n: p for n, p in base.named_parameters() if p.requires_grad}
    for run in range(2):
        gradients = {}
        with torch.no_grad():
            for i, layer in enumerate(adapters):
                for half, side in enumerate(("q", "v")):
                    name = f"base_model.model.model.layers.{i}.self_attn.{side}_proj.lora_"
                    a, b = (parameters[f"{name}{x}.default.weight"] for x in "AB")
                    part = slice(16 * half, 16 * half + 16)
                    a.copy_(layer["a"][run, part])
                    b.copy_(layer[side][run])
                    gradients[name + "A.default.weight"] = layer["a"].grad[run, part]
                    gradients[name + "B.default.weight"] = layer[side].grad[run]
        base.zero_grad()
        loss = base(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        close(f"loss of run {run}", losses[run].item(), loss.item(), 1e-5)
        names = [n for n in gradients if gradients[n].abs().max() > 0]
        close(f"gradients of run {run}", torch.cat([gradients[n].flatten() for n in names]),
              torch.cat([parameters[n].grad.flatten() for n in names]), 1e-4)


def main(folder=None, gguf=None):
    rng = np.random.default_rng(11)
    check_affine(rng)
    check_gates(rng)
    check_waterfill(rng)
    if folder is not None:
        check_model(folder, gguf)
    print("codec_sim: all checks passed")


if __name__ == "__main__":
    main(*sys.argv[1:])
