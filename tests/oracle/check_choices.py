#!/usr/bin/env python3
"""Seam's scores of choices against transformers, live: SmolLM2 on rows of the shared data.

    check_choices.py SEAMD SEAM [MODEL_DIR] [--rows N]

`seam eval` scores rows of ARC-C, BoolQ, WinoGrande, CommonsenseQA and rows made here with choices of
several tokens, in f32 over a real stream; transformers scores every choice of the same rows by
itself, prompt and choice tokenized apart and joined.  Scores within 1e-3 nats (two f32
implementations of 30 blocks, sums over the tokens of a choice); the picks, plain and by length,
are the same but where the two best are nearer than that; accuracies follow from the picks.
Exit code 77: MODEL_DIR (or SEAM_MODEL) or the shared data are absent.
"""

import argparse
import glob
import gzip
import json
import os
import subprocess
import sys
import tempfile

import torch
import transformers

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "golden"))
import text_support  # noqa: E402

SHARED = os.environ.get("SEAM_SHARED_DIR", os.path.join(HERE, "..", "..", "..", "shared"))
TASKS = ["arc_challenge", "boolq", "winogrande", "commonsense_qa"]
BOUND = 1e-3  # nats


def rows_of(task, count):
    with gzip.open(os.path.join(SHARED, "data", task, "test.jsonl.gz"), "rt") as f:
        return [json.loads(next(f)) for _ in range(count)]


def as_texts(row):
    """A row of letters with the answers' texts as choices: several tokens each, of unlike length."""
    options = [line[3:] for line in row["prompt"].splitlines() if line[1:3] == ". "]
    choices = [" " + text for text in options[-len(row["choices"]):]]
    question = row["prompt"].split("\nA. ")[0] + "\nAnswer:"
    return {"prompt": question, "choices": choices, "label": row["label"],
            "completion": choices[row["label"]]}


def serve(seamd, model):
    server = subprocess.Popen(
        [seamd, "--listen", "127.0.0.1:0", "--model", f"smol={model}", "--dtype", "f32",
         "--log-level", "error"],
        stdout=subprocess.PIPE, text=True)
    line = server.stdout.readline()
    if not line.startswith("seamd: listening on "):
        sys.exit(f"{seamd} did not start: {line!r}")
    return server, line.split()[-1]


def run_seam(seam, address, model, rows):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))
        file.flush()
        done = subprocess.run(
            [seam, "eval", "--server", address, "--model", model, "--data", file.name, "--codec",
             "f32", "--f32", "--exact-match", "off", "--examples", str(len(rows)), "--json"],
            capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{seam} eval: {done.stdout}{done.stderr}")
    return json.loads(done.stdout)


class Oracle:
    def __init__(self, folder):
        gguf = os.path.basename(glob.glob(os.path.join(folder, "*.gguf"))[0])
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=gguf)
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=gguf, dtype=torch.float32, attn_implementation="eager").eval()
        # transformers reads no pre-tokenizer out of a GGUF: SmolLM2's takes digits one at a time.
        published = text_support.reference("smollm2", os.path.join(folder, gguf))
        self.tokenizer.backend_tokenizer.pre_tokenizer = published.pre_tokenizer
        self.last = None, None  # input and logits: choices of one token have the same input

    def score(self, prompt, choice):
        """lm-evaluation-harness: the sum of the log softmax at the choice's tokens."""
        before = self.tokenizer(prompt)["input_ids"]
        after = self.tokenizer(choice)["input_ids"]
        ids = before + after[:-1]
        if self.last[0] != ids:
            with torch.no_grad():
                logits = self.model(input_ids=torch.tensor([ids]), logits_to_keep=len(after)).logits
            self.last = ids, logits[0]
        rows = torch.log_softmax(self.last[1].double(), dim=-1)
        assert len(rows) == len(after)
        return rows[range(len(after)), after].sum().item()


def best(scores):
    """The likeliest, the lowest index on ties, and how far the second is."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    return order[0], scores[order[0]] - scores[order[1]]


def check(oracle, name, rows, result):
    worst, ties, other = 0.0, 0, 0
    right = {"accuracy": 0, "accuracy_norm": 0}
    for row, got in zip(rows, result["choice_scores"], strict=True):
        expected = [oracle.score(row["prompt"], choice) for choice in row["choices"]]
        worst = max(worst, *(abs(a - b) for a, b in zip(expected, got["scores"], strict=True)))
        lengths = [len(choice.removeprefix(" ").encode()) for choice in row["choices"]]
        by_length = [s / n for s, n in zip(expected, lengths)]
        assert got["label"] == row["label"]
        for scores, picked, figure in ((expected, got["picked"], "accuracy"),
                                       (by_length, got["picked_norm"], "accuracy_norm")):
            pick, margin = best(scores)
            tie = margin < 2 * BOUND
            ties += tie
            other += pick != picked and not tie
            right[figure] += (picked if tie else pick) == row["label"]
    accuracies = all(abs(result[f] - n / len(rows)) < 1e-9 for f, n in right.items())
    passed = worst <= BOUND and other == 0 and accuracies and result["choice_rows"] == len(rows)
    print(f"{name}: {len(rows)} rows, scores off by {worst:.1e} nats, {other} other picks, {ties} "
          f"near ties; accuracy {result['accuracy']:.3f}, by length {result['accuracy_norm']:.3f}"
          + ("" if passed else "  FAILED"), flush=True)
    return passed


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("seamd")
    parser.add_argument("seam")
    parser.add_argument("smol", nargs="?", default=os.environ.get("SEAM_MODEL"))
    parser.add_argument("--rows", type=int, default=25, help="of each task")
    args = parser.parse_args()
    if args.smol is None or not os.path.isdir(os.path.join(SHARED, "data", TASKS[0])):
        print("SEAM_MODEL or the shared data are absent, skipped")
        return 77
    smol = args.smol if os.path.isdir(args.smol) else os.path.dirname(args.smol)
    sets = {task: rows_of(task, args.rows) for task in TASKS}
    sets["arc_challenge, texts"] = [as_texts(row) for row in sets["arc_challenge"]]
    oracle = Oracle(smol)
    server, address = serve(args.seamd, smol)
    try:
        passed = [check(oracle, name, rows, run_seam(args.seam, address, smol, rows))
                  for name, rows in sets.items()]
    finally:
        server.terminate()
        server.wait()
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
