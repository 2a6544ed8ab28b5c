#!/usr/bin/env python3
"""`seam merge` against NumPy: every tensor of the merged model, in every layout and type.

For random tiny models (F32, F16, BF16, single, sharded) and adapters: adapted matrices are
W + scale B A within 1e-6 of the largest (sums in another order), and rounded once: F16 and BF16 have
NumPy's bits in 99 %; every other tensor has the base's bytes; shapes, types and the other files are
the base's.  Then what must be refused, by name, leaving nothing behind.
Exits 77 without numpy or safetensors.  In transformers: tests/oracle/check_merge.py.

    test_merge.py SEAM
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "oracle"))
try:
    import numpy as np
    from safetensors.numpy import save_file
except ImportError as missing:
    print(f"SKIPPED: {missing}")
    sys.exit(77)

MODULES = {"q_proj": "self_attn", "k_proj": "self_attn", "v_proj": "self_attn",
           "o_proj": "self_attn", "gate_proj": "mlp", "up_proj": "mlp", "down_proj": "mlp"}
BYTES = {"F32": 4, "F16": 2, "BF16": 2}


def load(folder):
    """{name: (dtype, shape, raw bytes)} of all safetensors of a folder, and name -> file."""
    tensors, files = {}, {}
    for file in sorted(f for f in os.listdir(folder) if f.endswith(".safetensors")):
        with open(os.path.join(folder, file), "rb") as f:
            data = f.read()
        count = int.from_bytes(data[:8], "little")
        assert count % 8 == 0 or "merged" not in folder
        for name, info in json.loads(data[8:8 + count]).items():
            if name != "__metadata__":
                begin, end = (8 + count + o for o in info["data_offsets"])
                tensors[name] = info["dtype"], info["shape"], data[begin:end]
                files[name] = file
    return tensors, files


def bits_of(values, dtype):
    """f32 rounded to the type, to nearest even, as its bits."""
    if dtype == "F16":
        return values.astype(np.float16).view(np.uint16)
    bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def values_of(raw, dtype, shape):
    if dtype == "F32":
        return np.frombuffer(raw, "<f4").reshape(shape)
    words = np.frombuffer(raw, "<u2")
    if dtype == "F16":
        return words.view(np.float16).astype(np.float32).reshape(shape)
    return (words.astype(np.uint32) << 16).view(np.float32).reshape(shape)


def to_bf16(folder):
    """Rewrites model.safetensors with its values as BF16."""
    path = os.path.join(folder, "model.safetensors")
    header, data, at = {}, b"", 0
    for name, (dtype, shape, raw) in load(folder)[0].items():
        raw = bits_of(values_of(raw, dtype, shape).ravel(), "BF16").tobytes()
        header[name] = dict(dtype="BF16", shape=shape, data_offsets=[at, at + len(raw)])
        data, at = data + raw, at + len(raw)
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text + data)


def make_adapter(folder, base, rank, alpha, targets, rslora):
    rng = np.random.default_rng(rank)
    tensors = {}
    for name, (_, shape, _) in base.items():
        part = name.split(".")
        if part[-1] == "weight" and part[-2] in targets:
            key = "base_model.model." + name[: -len(".weight")]
            tensors[key + ".lora_A.weight"] = rng.standard_normal((rank, shape[1])).astype("f")
            tensors[key + ".lora_B.weight"] = rng.standard_normal((shape[0], rank)).astype("f")
    os.makedirs(folder, exist_ok=True)
    save_file(tensors, os.path.join(folder, "adapter_model.safetensors"))
    config = dict(peft_type="LORA", r=rank, lora_alpha=alpha, use_rslora=rslora, lora_dropout=0.3,
                  target_modules=sorted(targets), bias="none")
    with open(os.path.join(folder, "adapter_config.json"), "w") as f:
        json.dump(config, f)
    return tensors


def merge(seam, base, adapter, out, *args):
    return subprocess.run([seam, "merge", "--model", base, "--adapter", adapter, "--out", out,
                           "--json", *args], capture_output=True, text=True)


def check_values(base, merged, adapter, scale):
    assert list(sorted(base)) == list(sorted(merged))
    adapted = 0
    for name, (dtype, shape, raw) in base.items():
        got_dtype, got_shape, got = merged[name]
        assert (got_dtype, got_shape) == (dtype, shape), name
        key = "base_model.model." + name[: -len(".weight")]
        a, b = adapter.get(key + ".lora_A.weight"), adapter.get(key + ".lora_B.weight")
        if a is None:
            assert got == raw, name
            continue
        adapted += 1
        w = values_of(raw, dtype, shape).astype(np.float64)
        want = (w + scale * b.astype(np.float64) @ a.astype(np.float64)).astype(np.float32)
        if dtype == "F32":
            off = np.abs(values_of(got, dtype, shape) - want)
            assert off.max() <= 1e-6 * np.abs(want).max() and got != raw, (name, off.max())
            continue
        half_step = np.abs(want) * 2.0 ** (-11 if dtype == "F16" else -8) + 2.0 ** -25
        off = np.abs(values_of(got, dtype, shape) - want) - half_step
        assert off.max() <= 1e-6 * np.abs(want).max(), (name, off.max())
        assert (np.frombuffer(got, "<u2") == bits_of(want.ravel(), dtype)).mean() > 0.99, name
    return adapted


def check_model(seam, folder, name, bf16=False):
    base_dir, adapter_dir = os.path.join(folder, name), os.path.join(folder, "adapter-" + name)
    if bf16:
        to_bf16(base_dir)
    with open(os.path.join(base_dir, "tokenizer.json"), "w") as f:
        f.write("{}")
    base, _ = load(base_dir)
    total = sum(len(raw) for _, _, raw in base.values())
    for rslora, shard_bytes in ((False, 0), (True, total // 3)):
        targets = MODULES if rslora else ["q_proj", "down_proj"]
        rank, alpha = 4, 3.0
        adapter = make_adapter(adapter_dir, base, rank, alpha, targets, rslora)
        out = os.path.join(folder, f"merged-{name}-{rslora}")
        done = merge(seam, base_dir, adapter_dir, out, "--shard-bytes", str(shard_bytes))
        assert done.returncode == 0, done.stdout + done.stderr
        report = json.loads(done.stdout)
        merged, files = load(out)
        scale = alpha / (rank ** 0.5 if rslora else rank)
        adapted = check_values(base, merged, adapter, scale)
        assert adapted == len(adapter) // 2 == report["merged"]
        assert report["tensors"] == len(base) and report["bytes"] == total
        names = sorted(set(files.values()))
        assert report["files"] == len(names)
        if shard_bytes == 0:
            assert names == ["model.safetensors"]
        else:
            assert len(names) >= 3, names
            with open(os.path.join(out, "model.safetensors.index.json")) as f:
                index = json.load(f)
            assert index["weight_map"] == files and index["metadata"]["total_size"] == total
        for other in ("config.json", "tokenizer.json"):
            with open(os.path.join(base_dir, other)) as f, open(os.path.join(out, other)) as g:
                assert f.read() == g.read(), other
        assert not [f for f in os.listdir(out) if f.startswith(".")]
        again = merge(seam, base_dir, adapter_dir, out)
        assert again.returncode != 0 and "holds .safetensors files already" in again.stderr
    print(f"{name}{' bf16' if bf16 else ''}: passed", flush=True)


def check_layers(seam, folder, name):
    """Trained layers take the place of the base's, rounded once to its types; other tensors stay."""
    base_dir, layers_dir = os.path.join(folder, name), os.path.join(folder, "layers-" + name)
    base, _ = load(base_dir)
    rng = np.random.default_rng(5)
    trained = {n: rng.standard_normal(shape).astype("f") for n, (_, shape, _) in base.items()
               if n.startswith("model.layers.")}
    with open(os.path.join(base_dir, "config.json")) as f:
        layers = json.load(f)["num_hidden_layers"]
    fields = {"format": "seam-trained-layers", "version": 1, "architecture": "llama",
              "layers": [0, layers], "model_layers": layers}
    os.makedirs(layers_dir)

    def write(**changes):
        save_file(trained, os.path.join(layers_dir, "trained_layers.safetensors"))
        with open(os.path.join(layers_dir, "trained_layers.json"), "w") as f:
            json.dump({**fields, **changes}, f)

    write()
    out = os.path.join(folder, "whole-" + name)
    done = merge(seam, base_dir, layers_dir, out)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["merged"] == len(trained)
    merged, _ = load(out)
    assert sorted(merged) == sorted(base)
    for key, (dtype, shape, raw) in base.items():
        assert merged[key][:2] == (dtype, shape), key
        want = raw if key not in trained else trained[key].tobytes() if dtype == "F32" else \
            bits_of(trained[key].ravel(), dtype).tobytes()
        assert merged[key][2] == want, key
    some = "model.layers.1.mlp.up_proj.weight"
    whole = trained.pop(some)
    cases = [({some: whole[:-1]}, {}, "up_proj.weight: shape is"),
             ({some: whole, "model.layers.99.mlp.up_proj.weight": whole}, {},
              "layers.99.mlp.up_proj.weight: the base has no such matrix"),
             ({some: whole * np.float32(np.inf)}, {}, "up_proj.weight: row 0 is not finite"),
             ({some: whole}, {"architecture": "qwen2"}, "architecture: must be llama"),
             ({some: whole}, {"layers": [0, layers + 1]}, "layers: must be a range")]
    refused = os.path.join(folder, "refused-layers")
    for change, config, text in cases:
        trained.update(change)
        write(**config)
        done = merge(seam, base_dir, layers_dir, refused)
        assert done.returncode != 0 and text in done.stderr, (text, done.stderr)
        assert os.listdir(refused) == []
        for key in change:
            del trained[key]
    shutil.rmtree(layers_dir)
    print(f"{name}: trained layers: passed", flush=True)


def check_refused(seam, folder):
    base_dir, adapter_dir = os.path.join(folder, "tiny-d20"), os.path.join(folder, "bad")
    base, _ = load(base_dir)
    out = os.path.join(folder, "refused")
    weights = os.path.join(adapter_dir, "adapter_model.safetensors")
    config = os.path.join(adapter_dir, "adapter_config.json")
    key = "base_model.model.model.layers.1.self_attn.q_proj.lora_"

    def without(tensors):
        del tensors[key + "B.weight"]

    def renamed(tensors):
        tensors["base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight"] = tensors[
            key + "A.weight"]

    def thinner(tensors):
        tensors[key + "A.weight"] = tensors[key + "A.weight"][:, :-1].copy()

    def endless(tensors):
        tensors[key + "B.weight"][3, 1] = np.inf

    def integers(tensors):
        tensors[key + "A.weight"] = tensors[key + "A.weight"].astype(np.int32)

    cases = [(without, "layers.1.self_attn.q_proj.lora_B.weight: missing"),
             (renamed, "layers.7.self_attn.q_proj.lora_A.weight: the base has no such matrix"),
             (thinner, "lora_A.weight: shape is [2, 59], must be [2, 60]"),
             (endless, "layers.1.self_attn.q_proj.weight: row 3 is not finite"),
             (integers, "lora_A.weight: dtype must be F32, F16 or BF16")]
    for change, text in cases:
        tensors = make_adapter(adapter_dir, base, 2, 4.0, ["q_proj"], False)
        change(tensors)
        save_file(tensors, weights)
        done = merge(seam, base_dir, adapter_dir, out)
        assert done.returncode != 0 and text in done.stderr, (text, done.stderr)
        assert os.listdir(out) == [], os.listdir(out)
    for field, value, text in [("peft_type", "PREFIX_TUNING", "a prefix cannot be merged"),
                               ("use_dora", True, "use_dora"), ("r", 3, "must be [3, 60]")]:
        make_adapter(adapter_dir, base, 2, 4.0, ["q_proj"], False)
        with open(config) as f:
            fields = json.load(f)
        with open(config, "w") as f:
            json.dump({**fields, "num_virtual_tokens": 3, field: value}, f)
        done = merge(seam, base_dir, adapter_dir, out)
        assert done.returncode != 0 and text in done.stderr, (text, done.stderr)
    make_adapter(adapter_dir, base, 2, 4.0, ["q_proj"], False)
    gguf = os.path.join(folder, "empty.gguf")
    open(gguf, "w").close()
    for model, text in ((gguf, "empty.gguf"), (os.path.join(folder, "none"), "No such file")):
        done = merge(seam, model, adapter_dir, out)
        assert done.returncode != 0 and text in done.stderr, (text, done.stderr)
    done = subprocess.run([seam, "merge", "--model", base_dir], capture_output=True, text=True)
    assert done.returncode == 2 and "--adapter is needed" in done.stderr, done.stderr
    print("refused: passed")


def main():
    seam, maker = sys.argv[1], os.path.join(HERE, "..", "oracle", "make_tiny_models.py")
    folder = tempfile.mkdtemp()
    try:
        subprocess.run([sys.executable, maker, folder], check=True)
        for name in ("tiny-d20", "tiny-d20-tied", "tiny-sharded", "tiny-f16"):
            check_model(seam, folder, name)
        check_refused(seam, folder)
        for name in ("tiny-d20-tied", "tiny-sharded", "tiny-f16"):
            check_layers(seam, folder, name)
        check_model(seam, folder, "tiny-d64", bf16=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
