#!/usr/bin/env python3
"""Seam's loss and generated texts against transformers, live: SmolLM2 on rows of the shared data.

    check_texts.py SEAMD SEAM [MODEL_DIR] [--rows N] [--new-tokens N]

`seam eval` in f32 over a real stream. GSM8K and Code Alpaca: the loss within 1e-5 of transformers' on
the same tokens; the greedy text of every row the same, unless the two likeliest tokens are within 1e-3
nats where it parts (two f32 implementations of 30 blocks); exact match as counted from
transformers' texts. HumanEval: samples in the official form, one line a sample, repeated by the seed.
Sampling: 1000 first tokens of one prompt at temperature 0.6 and top-p 0.9 are all of the nucleus that
transformers' own processors leave, as often as they say (chi-squared test at 1e-6).
Exit code 77: MODEL_DIR (or SEAM_MODEL) or the shared data are absent.
"""

import argparse
import collections
import json
import math
import os
import re
import subprocess
import sys
import tempfile

import torch
import transformers
from transformers.generation.logits_process import TemperatureLogitsWarper, TopPLogitsWarper

import check_choices
from check_choices import SHARED, rows_of, serve

TIE = 1e-3  # nats
PROMPT = "My favourite colour is"
DRAWS = 1000


class Oracle(check_choices.Oracle):
    def stop_ids(self):
        ends = [self.tokenizer.eos_token, "<|im_end|>"]
        return {self.tokenizer.convert_tokens_to_ids(end) for end in ends}

    def loss(self, rows):
        """Mean over all labelled tokens: the completion and the end token."""
        total, count = 0.0, 0
        for row in rows:
            prompt = self.tokenizer(row["prompt"])["input_ids"]
            rest = self.tokenizer(row["completion"])["input_ids"] + [self.tokenizer.eos_token_id]
            with torch.no_grad():
                logits = self.model(input_ids=torch.tensor([prompt + rest[:-1]]),
                                    logits_to_keep=len(rest)).logits[0]
            scores = torch.log_softmax(logits.double(), dim=-1)
            total -= scores[range(len(rest)), rest].sum().item()
            count += len(rest)
        return total / count

    def greedy(self, prompt, count):
        """The text, and for each of its places how far the second token is."""
        ids = self.tokenizer(prompt, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            out = self.model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count,
                eos_token_id=list(self.stop_ids()), pad_token_id=0, return_dict_in_generate=True,
                output_logits=True)
        new = out.sequences[0, ids.shape[1]:].tolist()
        margins = [(t[0, 0] - t[0, 1]).item() for t in (s.topk(2).values for s in out.logits)]
        if new and new[-1] in self.stop_ids():
            new.pop()
        return self.tokenizer.decode(new, skip_special_tokens=True), new, margins

    def nucleus(self, prompt, temperature, top_p):
        ids = self.tokenizer(prompt, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logits = self.model(input_ids=ids, logits_to_keep=1).logits[0]
        scores = TopPLogitsWarper(top_p)(ids, TemperatureLogitsWarper(temperature)(ids, logits))
        shares = torch.softmax(scores.double(), dim=-1)[0]
        kept = [i for i, score in enumerate(scores[0]) if score > -math.inf]
        return {self.tokenizer.decode([i]): shares[i].item() for i in kept}


def run_seam(seam, address, model, rows, *more):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))
        file.flush()
        done = subprocess.run(
            [seam, "eval", "--server", address, "--model", model, "--data", file.name, "--codec",
             "f32", "--f32", "--json", *map(str, more)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{seam} eval: {done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def is_right(text, row):
    if "answer" not in row:
        return text.strip() == row["completion"].strip()
    found = re.findall("####([^\n]*)", text)
    return bool(found) and found[-1].strip().replace(",", "") == row["answer"]


def check_greedy(oracle, run, name, rows, count):
    result = run(rows, "--examples", len(rows), "--new-tokens", count)
    loss = oracle.loss(rows)
    other, ties, right = 0, 0, 0
    for row, example in zip(rows, result["examples"], strict=True):
        text, new, margins = oracle.greedy(row["prompt"], count)
        right += is_right(text, row)
        if example["generated"] == text:
            continue
        got = oracle.tokenizer(example["generated"])["input_ids"]
        parts = next((i for i, (a, b) in enumerate(zip(got, new)) if a != b), min(len(got), len(new)))
        tie = parts < len(margins) and margins[parts] < TIE
        ties, other = ties + tie, other + (not tie)
        if not tie:
            print(f"  {row['prompt']!r}: {example['generated']!r} is not {text!r}")
    exact = result["exact_rows"]
    passed = abs(result["loss"] - loss) < 1e-5 * loss and other == 0 and abs(exact - right) <= ties
    print(f"{name}: {len(rows)} rows, loss {result['loss']:.6f} against {loss:.6f}, {other} other texts, "
          f"{ties} near ties, {exact} exact" + ("" if passed else "  FAILED"), flush=True)
    return passed


def check_samples(run, rows):
    texts = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in (7, 7, 8):
            path = os.path.join(folder, "samples.jsonl")
            result = run(rows, "--samples-out", path, "--samples", 2, "--seed", seed, "--new-tokens", 24)
            with open(path) as f:
                texts.append(f.read())
    lines = [json.loads(line) for line in texts[0].splitlines()]
    tasks = [row["task_id"] for row in rows for _ in range(2)]
    passed = ([line["task_id"] for line in lines] == tasks and texts[0] == texts[1] != texts[2]
              and all(set(line) == {"task_id", "completion"} for line in lines)
              and result["samples"] == len(tasks) and abs(result["temperature"] - 0.2) < 1e-6)
    print(f"HumanEval: {len(lines)} samples, the same by the same seed" + ("" if passed else "  FAILED"))
    return passed


def check_nucleus(oracle, run):
    row = {"task_id": "draw", "prompt": PROMPT, "completion": " red"}
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "samples.jsonl")
        run([row], "--samples-out", path, "--samples", DRAWS, "--new-tokens", 1, "--temperature", 0.6,
            "--top-p", 0.9, "--slots", 64)
        with open(path) as f:
            drawn = collections.Counter(json.loads(line)["completion"] for line in f)
    shares = oracle.nucleus(PROMPT, 0.6, 0.9)
    outside = sum(n for text, n in drawn.items() if text not in shares)
    often = {t: s for t, s in shares.items() if s * DRAWS >= 5}
    rest = 1 - sum(often.values())
    pairs = [(drawn[t], s * DRAWS) for t, s in often.items()]
    if rest * DRAWS >= 5:
        pairs.append((DRAWS - sum(n for n, _ in pairs), rest * DRAWS))
    chi2 = sum((n - e) ** 2 / e for n, e in pairs)
    chance = 1 - torch.special.gammainc(torch.tensor((len(pairs) - 1) / 2, dtype=torch.float64),
                                        torch.tensor(chi2 / 2, dtype=torch.float64)).item()
    passed = outside == 0 and len(pairs) > 3 and chance > 1e-6
    print(f"top-p: {DRAWS} draws, nucleus of {len(shares)} tokens, {outside} outside of it, chi-squared "
          f"{chi2:.1f} of {len(pairs) - 1} (chance {chance:.3f})" + ("" if passed else "  FAILED"))
    return passed


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("seamd")
    parser.add_argument("seam")
    parser.add_argument("smol", nargs="?", default=os.environ.get("SEAM_MODEL"))
    parser.add_argument("--rows", type=int, default=12, help="of each set")
    parser.add_argument("--new-tokens", type=int, default=64)
    args = parser.parse_args()
    if args.smol is None or not os.path.isdir(os.path.join(SHARED, "data", "gsm8k")):
        print("SEAM_MODEL or the shared data are absent, skipped")
        return 77
    smol = args.smol if os.path.isdir(args.smol) else os.path.dirname(args.smol)
    oracle = Oracle(smol)
    server, address = serve(args.seamd, smol)

    def run(rows, *more):
        return run_seam(args.seam, address, smol, rows, *more)

    try:
        passed = [check_greedy(oracle, run, name, rows_of(name, args.rows), args.new_tokens)
                  for name in ("gsm8k", "code_alpaca")]
        passed.append(check_samples(run, rows_of("humaneval", 4)))
        passed.append(check_nucleus(oracle, run))
    finally:
        server.terminate()
        server.wait()
    return 0 if all(passed) else 1


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    sys.exit(main())
