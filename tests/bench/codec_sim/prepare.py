#!/usr/bin/env python3
"""What a codec_sim run carries to a machine without network: the model's file in parts that each
fit one transfer, and token ids of the data sets.

    prepare.py MODEL.gguf DATA_DIR OUT_DIR [PART_COUNT]

Needs transformers with gguf (deploy/setup.sh oracle).  Writes OUT_DIR/model.N.part and
OUT_DIR/tokens.npz.  A row is prompt + completion + end token, cut to 384 tokens; the loss mask
begins at the completion.  Multiple choice rows also keep the token of each choice.
"""
import gzip
import json
import os
import sys

import numpy as np
import transformers

TASKS = ("gsm8k", "code_alpaca", "arc_challenge")
TRAIN_ROWS, TEST_ROWS, TOKENS_MAX, CHOICES_MAX = 2048, 1000, 384, 5


def split(model, out, count):
    data = open(model, "rb").read()
    part = -(-len(data) // count)
    for i in range(count):
        with open(os.path.join(out, f"model.{i}.part"), "wb") as file:
            file.write(data[i * part:(i + 1) * part])


def encode(rows, tokenizer, limit):
    ids, begins, prompts, labels, choices = [], [0], [], [], []
    for row in rows[:limit]:
        prompt = tokenizer(row["prompt"], add_special_tokens=False).input_ids
        full = prompt + tokenizer(row["completion"], add_special_tokens=False).input_ids
        full = (full + [tokenizer.eos_token_id])[:TOKENS_MAX]
        if len(full) <= len(prompt):
            continue  # no label left
        ids += full
        begins.append(len(ids))
        prompts.append(len(prompt))
        tokens = [tokenizer(c, add_special_tokens=False).input_ids for c in row.get("choices", [])]
        if any(len(t) != 1 for t in tokens):
            raise ValueError("a choice of several tokens")
        tokens = [t[0] for t in tokens]
        choices.append((tokens + [-1] * CHOICES_MAX)[:CHOICES_MAX])
        labels.append(row.get("label", -1))
    return {"ids": np.array(ids, np.uint16), "begins": np.array(begins, np.int32),
            "prompts": np.array(prompts, np.int32), "labels": np.array(labels, np.int32),
            "choices": np.array(choices, np.int32)}


def main(model, data, out, count="2"):
    os.makedirs(out, exist_ok=True)
    split(model, out, int(count))
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        os.path.dirname(os.path.abspath(model)), gguf_file=os.path.basename(model))
    arrays = {}
    for task in TASKS:
        for part, limit in (("train", TRAIN_ROWS), ("test", TEST_ROWS)):
            path = os.path.join(data, task, f"{part}.jsonl.gz")
            rows = [json.loads(line) for line in gzip.open(path, "rt", encoding="utf-8")]
            encoded = encode(rows, tokenizer, limit)
            arrays.update({f"{task}.{part}.{k}": v for k, v in encoded.items()})
            count_rows = len(encoded["prompts"])
            tokens = len(encoded["ids"])
            labelled = tokens - int(encoded["prompts"].sum())
            print(f"{task} {part}: {count_rows} rows, {tokens / count_rows:.1f} tokens a row, "
                  f"{labelled / count_rows:.1f} labelled")
    np.savez_compressed(os.path.join(out, "tokens.npz"), **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
