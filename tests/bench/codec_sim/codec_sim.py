#!/usr/bin/env python3
"""Simulates Seam's codecs in training: every codec of one task and seed at once, on one device.

    codec_sim.py --data DIR --out FILE.jsonl [--tasks a,b] [--seeds 1,2] [--minutes M] ...

DIR is what prepare.py wrote.  A U-shaped split of SmolLM2 (embedding | all blocks | norm and head),
LoRA of rank 16 on q and v.  The runs of a job (task, seed) differ in the codec alone: rows, order,
first adapter and the draws of stochastic rounding are the same.  One optimizer step is one
micro-batch of 8 rows:

    embedding -> fwd_in codec -> blocks -> fwd_out codec (labelled rows) -> head, loss
              adapters <- blocks <- bwd_out codec (stochastic, the widths of fwd_out) <-

Nothing travels; payload.py counts what would.  One JSON line a run, written when its job ends;
codec_sim_table.py makes the table.  A job that would not end in time is left out, and named on the
last line.  --random measures speed on random weights, without the model's file.
"""
import argparse
import json
import sys
import time

import numpy as np
import torch

import fleet_run
import gguf_numpy
import llama_fleet

LR = {"gsm8k": 1e-4, "code_alpaca": 1e-4, "arc_challenge": 5e-5}  # the paper's presets
PAPER_CHANNELS = 4096  # of LLaMA3-8B, to which the paper's beta belongs
RAMP = 0.4


def codec_list(channels, only):
    """Every run: name, target bits, kinds of the sites and, for the affine grid, its allocation."""
    runs = [{"name": "bf16", "bits": 16, "kind": "raw", "kind_in": "raw"}]

    def amaq(name, mode, bits, **more):
        start = {4: 8.0, 3: 6.0}[bits]
        run = {"name": name, "bits": bits, "kind": "affine", "kind_in": "affine", "mode": mode,
               "start": start, "ramp": RAMP, "loss": "l2", "in_site": 1.0, "exact": False,
               "beta": 0.02 * channels / PAPER_CHANNELS}
        run.update(more)
        return run

    for b in (4, 3):
        for kind in ("tensor", "channel", "group", "aqsgd"):
            runs.append({"name": kind, "bits": b, "kind": kind, "kind_in": kind})
        runs += [
            amaq("affine", "uniform", b, start=float(b)),
            amaq("affine_ramp", "uniform", b),
            amaq("gates", "gates", b),
            amaq("gates_l1", "gates", b, loss="l1"),
            amaq("gates_exact", "gates", b, exact=True),
            amaq("gates_wf", "gates_wf", b, start=float(b), loss="l1"),
            amaq("waterfill", "waterfill", b),
            amaq("waterfill_flat", "waterfill", b, start=float(b)),
            amaq("waterfill_dict", "waterfill", b, kind_in="raw", in_site=0.0),
        ]
    return [r for r in runs if not only or r["name"] in only.split(",")]


class Rows:
    """Rows of one file of tokens.npz."""

    def __init__(self, arrays, task, part):
        self.ids, self.begins, self.prompts, self.labels, self.choices = (
            arrays[f"{task}.{part}.{k}"] for k in ("ids", "begins", "prompts", "labels", "choices"))

    def __len__(self):
        return len(self.prompts)

    def batch(self, which, device):
        sequences = [(self.ids[self.begins[i]:self.begins[i + 1]].tolist(), int(self.prompts[i]))
                     for i in which]
        batch = llama_fleet.Batch(sequences, device)
        batch.rows_of_file = list(which)
        batch.choices = torch.tensor(self.choices[which], device=device).long()
        batch.answers = torch.tensor(self.labels[which], device=device)
        return batch


def order(seed, rows, epochs, batch):
    generator = np.random.default_rng(seed)
    every = np.concatenate([generator.permutation(rows) for _ in range(epochs)])
    return every[:len(every) // batch * batch].reshape(-1, batch)


def random_model():
    """SmolLM2-135M's shape with random weights."""
    config = {"hidden": 576, "layers": 30, "intermediate": 1536, "heads": 9, "kv_heads": 3,
              "theta": 1e5, "eps": 1e-5, "eos": 2}
    generator = np.random.default_rng(0)

    def matrix(*shape):
        return generator.standard_normal(shape, np.float32) * np.float32(0.04)

    weights = {"token_embd": matrix(49152, 576), "output_norm": np.ones(576, np.float32)}
    for i in range(config["layers"]):
        for name, shape in (("attn_q", (576, 576)), ("attn_k", (192, 576)), ("attn_v", (192, 576)),
                            ("attn_output", (576, 576)), ("ffn_gate", (1536, 576)),
                            ("ffn_up", (1536, 576)), ("ffn_down", (576, 1536))):
            weights[f"blk.{i}.{name}"] = matrix(*shape)
        for name in ("attn_norm", "ffn_norm"):
            weights[f"blk.{i}.{name}"] = np.ones(576, np.float32)
    return config, weights


def load_model(args, device):
    parts = [f"{args.data}/model.{i}.part" for i in range(args.parts)]
    config, weights = random_model() if args.random else gguf_numpy.load_parts(parts)
    if args.layers:
        config["layers"] = args.layers
    # PyTorch's bf16 products are slow on most CPUs, where only checks run.
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    return llama_fleet.Llama(config, weights, device, dtype)


def run_job(args, model, arrays, task, seed, deadline, runs):
    """Trains and evaluates `runs` of (task, seed); returns their JSON records."""
    train, test = Rows(arrays, task, "train"), Rows(arrays, task, "test")
    rows = min(args.rows, len(train))
    # Built before the first step: in a step no copy makes the host wait for the device.
    batches = [train.batch(which, model.device)
               for which in order(seed, rows, args.epochs, args.batch)[:args.steps or None]]
    test_rows = len(test) if task == "arc_challenge" and not args.quick else min(args.test_rows,
                                                                                len(test))
    job = fleet_run.Job(model, runs, train, rows, len(batches), seed, LR[task] * args.lr_factor)
    begin, cut = time.monotonic(), False
    for step, batch in enumerate(batches):
        job.step(step, batch)
        if step % args.log_every == 0 or step == len(batches) - 1:
            mean = job.losses[-1].mean().item()  # waits for the device
            now = time.monotonic()
            print(f"{task} seed {seed} step {step}: mean loss {mean:.4f}, "
                  f"{(now - begin) / (step + 1) * 1e3:.0f} ms a step, {job.memory_gib():.1f} GiB",
                  flush=True)
            if now > deadline - args.reserve_s:
                cut = step < len(batches) - 1
                break
    results = {}
    for through in (True, False):
        results[through] = job.evaluate(test, test_rows, args.batch, through)
    shared = {"task": task, "seed": seed, "cut": cut, "rows": rows, "batch": args.batch,
              "test_rows": test_rows, "device": args.device_name, "random": args.random,
              "seconds": round(time.monotonic() - begin, 1)}
    return [{**shared, **record} for record in job.records(results)]


def run_all(args, model, arrays, task, seed, deadline):
    """A job in as many pieces as the device's memory asks for."""
    runs = codec_list(model.c["hidden"], args.only)
    while runs:
        piece = runs[:args.stack]
        try:
            records = run_job(args, model, arrays, task, seed, deadline, piece)
        except torch.OutOfMemoryError:
            if args.stack == 1:
                raise
            args.stack = (min(args.stack, len(runs)) + 1) // 2
            print(f"out of memory: from here on {args.stack} runs at once", flush=True)
            torch.cuda.empty_cache()
            continue
        with open(args.out, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
        runs = runs[args.stack:]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default=".simdata")
    parser.add_argument("--out", default="codec_sim.jsonl")
    parser.add_argument("--tasks", default="gsm8k,code_alpaca,arc_challenge")
    parser.add_argument("--seeds", default="1,2")
    parser.add_argument("--only", default="", help="names of codecs; all if empty")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--reserve-s", type=float, default=25.0, help="kept for an evaluation")
    parser.add_argument("--rows", type=int, default=640)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=0, help="fewer steps than the epochs have")
    parser.add_argument("--test-rows", type=int, default=400)
    parser.add_argument("--lr-factor", type=float, default=1.0)
    parser.add_argument("--log-every", type=int, default=20)
    parser.add_argument("--layers", type=int, default=0, help="fewer blocks, for quick checks")
    parser.add_argument("--parts", type=int, default=2)
    parser.add_argument("--stack", type=int, default=64, help="runs at once, at most")
    parser.add_argument("--quick", action="store_true", help="--test-rows for every task")
    parser.add_argument("--random", action="store_true")
    args = parser.parse_args()
    deadline = time.monotonic() + 60.0 * args.minutes
    device = "cuda" if torch.cuda.is_available() else "cpu"
    args.device_name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    model = load_model(args, device)
    with np.load(f"{args.data}/tokens.npz") as stored:
        arrays = dict(stored)
    left_out, longest = [], {}
    for seed in map(int, args.seeds.split(",")):
        for task in args.tasks.split(","):
            left = deadline - time.monotonic()
            if left < longest.get(task, 0.0) + args.reserve_s:
                left_out.append(f"{task}:{seed}")
                continue
            begin = time.monotonic()
            run_all(args, model, arrays, task, seed, deadline)
            longest[task] = time.monotonic() - begin
            print(f"{task} seed {seed}: {longest[task]:.0f} s in all", flush=True)
    print("left out for lack of time:", ", ".join(left_out) or "none")
    return 0


if __name__ == "__main__":
    sys.exit(main())
