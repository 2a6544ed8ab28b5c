#!/usr/bin/env python3
"""Rows of data files as ids and labels equal those put together from Hugging Face's encodings.

gpt2 on every training set of ../shared/data (prompt/completion, gzip); SmolLM2, where its GGUF is
in the cache, on conversations, its template written out (tests/oracle/check_chat.py compares that
with Jinja).  Exits 77 where data or packages are absent.

    test_rows.py DUMP_ROWS
"""

import glob
import gzip
import json
import os
import subprocess
import sys
import tempfile

import text_support as support

ROWS = 200
CHATS = [
    [("user", "hi"), ("assistant", "Hello!\nHow are you?"), ("user", "x"), ("assistant", " 12 ")],
    [("system", "Be brief."), ("user", "caf\u00e9 \U0001f999"), ("assistant", "ok")],
    [("user", "a"), ("assistant", "b"), ("user", "never trained on")],
]
HEAD = "<|im_start|>assistant\n"
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


def samples(tool, tokenizer, path):
    run = subprocess.run([tool, tokenizer, path], capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"{path}: {run.stderr}")
    out = []
    for line in run.stdout.splitlines():
        words = line.split()
        out.append(([int(w.rstrip("*")) for w in words], [w.endswith("*") for w in words]))
    return out


def completion_sets(tool):
    tokenizer = support.TOKENIZERS["gpt2"]
    hf = support.reference("gpt2", tokenizer)
    end = hf.token_to_id("<|endoftext|>")
    for path in sorted(glob.glob(os.path.join(support.SHARED, "data", "*", "train.jsonl.gz"))):
        with gzip.open(path, "rb") as f:
            lines = [next(f) for _ in range(ROWS)]
        want = []
        for line in lines:
            row = json.loads(line)
            prompt = hf.encode(row["prompt"], add_special_tokens=False).ids
            rest = hf.encode(row["completion"], add_special_tokens=False).ids + [end]
            want.append((prompt + rest, [False] * len(prompt) + [True] * len(rest)))
        with tempfile.NamedTemporaryFile(suffix=".gz") as out:
            out.write(gzip.compress(b"".join(lines)))
            out.flush()
            assert samples(tool, tokenizer, out.name) == want, path
        print(f"{os.path.basename(os.path.dirname(path))}: {ROWS} rows equal")


def chat_text(messages):
    """SmolLM2's template written out."""
    if messages[0][0] != "system":
        messages = [("system", SYSTEM)] + messages
    return "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in messages)


def chats(tool, path):
    hf = support.reference("smollm2", path)
    end = hf.token_to_id("<|im_end|>")
    with tempfile.NamedTemporaryFile("w") as out:
        for chat in CHATS:
            rows = [{"role": role, "content": text} for role, text in chat]
            out.write(json.dumps({"messages": rows}) + "\n")
        out.flush()
        got = samples(tool, path, out.name)
    for chat, (ids, labels) in zip(CHATS, got, strict=True):
        while chat[-1][0] != "assistant":
            chat = chat[:-1]
        # As one text but for the border before a reply, where generation begins as well; without
        # the newline behind the last reply.
        parts = chat_text(chat)[:-1].split(HEAD)
        parts = [part + HEAD for part in parts[:-1]] + parts[-1:]
        want = sum([hf.encode(part, add_special_tokens=False).ids for part in parts], [])
        assert ids == want, (chat, ids, want)
        replies = [hf.encode(t, add_special_tokens=False).ids + [end] for r, t in chat if r == "assistant"]
        assert [i for i, label in zip(ids, labels) if label] == sum(replies, []), chat
    print(f"smollm2: {len(CHATS)} conversations equal")


def main(tool):
    try:
        import tokenizers  # noqa: F401
    except ImportError:
        print("skipped: needs the package tokenizers")
        sys.exit(77)
    if not os.path.isdir(support.FIXTURES):
        print(f"skipped: {support.FIXTURES} is absent (SEAM_SHARED_DIR)")
        sys.exit(77)
    completion_sets(tool)
    if support.smollm2():
        chats(tool, support.smollm2())
    else:
        print("smollm2: not compared: its GGUF is not in the cache")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
