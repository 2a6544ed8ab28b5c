"""What the tokenizer comparisons share: shared data, the C tool, and Hugging Face's tokenizers."""

import gzip
import json
import os
import random
import struct
import subprocess
import unicodedata

HERE = os.path.dirname(os.path.abspath(__file__))
SHARED = os.environ.get("SEAM_SHARED_DIR", os.path.join(HERE, "..", "..", "..", "shared"))
FIXTURES = os.path.join(SHARED, "fixtures")
TOKENIZERS = {  # name: path of the fixture
    "gpt2": os.path.join(FIXTURES, "gpt2"),
    "dolma2": os.path.join(FIXTURES, "dolma2", "tokenizer.json"),
    "minimind": os.path.join(FIXTURES, "minimind", "tokenizer.json"),
    "phi3": os.path.join(FIXTURES, "phi3", "tokenizer.json"),
}


def smollm2():
    """SmolLM2's GGUF where `seam model pull` or SEAM_SMOLLM2_GGUF put it, or None."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    stated = os.environ.get("SEAM_SMOLLM2_GGUF")
    for folder, _, files in [] if stated else os.walk(os.path.join(cache, "seam")):
        for file in files:
            if file.lower().startswith("smollm2-135m-instruct") and file.endswith(".gguf"):
                return os.path.join(folder, file)
    return stated


def cases():
    with open(os.path.join(FIXTURES, "vectors", "cases.inp"), encoding="utf-8", newline="") as f:
        return f.read().split("\n__ggml_vocab_test__\n")


def vectors(name):
    with open(os.path.join(FIXTURES, "vectors", name + ".out"), encoding="utf-8") as f:
        return [[int(i) for i in line.split()] for line in f.read().split("\n")[: len(cases())]]


def rows(count):
    """`count` texts spread evenly over the training sets."""
    names = ["arc_challenge", "boolq", "code_alpaca", "commonsense_qa", "gsm8k", "winogrande"]
    texts = []
    for i, name in enumerate(names):
        share = count * (i + 1) // len(names) - count * i // len(names)
        with gzip.open(os.path.join(SHARED, "data", name, "train.jsonl.gz"), "rt") as f:
            for line in [next(f) for _ in range(share)]:
                row = json.loads(line)
                texts.append(row["prompt"] + row["completion"])
    return texts


def noise(count):
    """Strings of any assigned characters between those that split patterns look at."""
    rng = random.Random(20240611)
    points = [c for c in range(32, 0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]
    near = " \n\t\r\x0b\x85\u180e\u00a0\u2028aZ1\u0662'sS!\u00e9\u4f60\u0301\u017f"
    return [
        "".join(
            chr(rng.choice(points)) if rng.random() < 0.3 else rng.choice(near) for _ in range(30)
        )
        for _ in range(count)
    ]


def encode(tool, tokenizer, texts, decode=False):
    """Ids (or the decoded texts) of `texts` by tokenize_lines."""
    text = "".join(json.dumps(t) + "\n" for t in texts)
    command = [tool, tokenizer] + (["--decode"] if decode else [])
    run = subprocess.run(command, input=text.encode(), capture_output=True)
    if run.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {run.stderr.decode()}")
    lines = run.stdout.decode().split("\n")[:-1]
    return [json.loads(x) if decode else [int(i) for i in x.split()] for x in lines]


def gguf_tokenizer(path):
    """(tokens, token types, merges) of a GGUF file's metadata."""
    with open(path, "rb") as f:
        data = f.read(16 << 20)
    sizes = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}
    at = 24

    def take(form):
        nonlocal at
        at += struct.calcsize(form)
        return struct.unpack_from("<" + form, data, at - struct.calcsize(form))[0]

    def value(kind):
        nonlocal at
        if kind == 8:
            count = take("Q")
            at += count
            return data[at - count : at].decode()
        if kind == 9:
            kind, count = take("I"), take("Q")
            return [value(kind) for _ in range(count)]
        return take(sizes[kind])

    keys = {}
    for _ in range(struct.unpack_from("<Q", data, 16)[0]):
        name = value(8)
        keys[name] = value(take("I"))
    return [keys["tokenizer.ggml." + k] for k in ("tokens", "token_type", "merges")]


def reference(name, path):
    """Hugging Face's tokenizer for a fixture; SmolLM2's is put together as its published file is."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    if name not in ("gpt2", "smollm2"):
        return Tokenizer.from_file(path)
    if name == "gpt2":
        model = models.BPE.from_file(
            os.path.join(path, "vocab.json"), os.path.join(path, "merges.txt")
        )
        special, steps = ["<|endoftext|>"], []
    else:
        tokens, types, merges = gguf_tokenizer(path)
        model = models.BPE({t: i for i, t in enumerate(tokens)}, [tuple(m.split(" ")) for m in merges])
        special = [t for t, kind in zip(tokens, types) if kind == 3]
        steps = [pre_tokenizers.Digits(individual_digits=True)]
    tokenizer = Tokenizer(model)
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    return tokenizer
