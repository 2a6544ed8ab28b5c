#!/usr/bin/env python3
"""`seam merge` in transformers: the merged folder, loaded without peft, has the logits of the base
with the adapter in peft, within 1e-4 of the largest in f32.

    check_merge.py SEAM
"""

import json
import os
import subprocess
import sys
import tempfile

import peft
import torch
from safetensors.torch import save_file

import check_model
import synthetic_model

BOUND = 1e-4


def logits_of(model, ids):
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0]


def check(seam, folder, name, rslora):
    base = os.path.join(folder, name)
    plain = check_model.load_base(base)
    projections = {n.rsplit(".", 1)[-1] for n, _ in plain.named_modules()}
    projections &= set(check_model.PROJECTIONS)
    config = peft.LoraConfig(r=6, lora_alpha=9, use_rslora=rslora, task_type="CAUSAL_LM",
                             target_modules=sorted(projections))
    model = peft.get_peft_model(plain, config)
    with torch.no_grad():
        for key, p in model.named_parameters():
            if p.requires_grad:
                p.copy_(torch.from_numpy(synthetic_model.tensor(key, p.shape)))
    adapter = os.path.join(folder, f"adapter-{name}-{rslora}")
    out = os.path.join(folder, f"merged-{name}-{rslora}")
    model.save_pretrained(adapter)
    subprocess.run([seam, "merge", "--model", base, "--adapter", adapter, "--out", out,
                    "--shard-bytes", "40000"], check=True, capture_output=True)
    ids = [(7 * i + 3) % model.config.vocab_size for i in range(23)]
    want, got = logits_of(model.eval(), ids), logits_of(check_model.load_base(out), ids)
    with model.disable_adapter():
        moved = ((logits_of(model, ids) - want).abs().max() / want.abs().max()).item()
    off = ((got - want).abs().max() / want.abs().max()).item()
    passed = off <= BOUND < moved
    print(f"{name} rslora {rslora}: logits off by {off:.1e}, the adapter moves them by {moved:.1e}"
          + ("" if passed else "  FAILED"), flush=True)
    return passed


def check_layers(seam, folder, name):
    """Layers trained in full, merged: transformers' logits with the same values set by hand."""
    base = os.path.join(folder, name)
    model = check_model.load_base(base)
    trained = {key: torch.from_numpy(synthetic_model.tensor(key + " trained", p.shape))
               for key, p in model.named_parameters() if key.startswith("model.layers.")}
    layers, out = os.path.join(folder, f"layers-{name}"), os.path.join(folder, f"whole-{name}")
    os.makedirs(layers)
    save_file(trained, os.path.join(layers, "trained_layers.safetensors"))
    count = model.config.num_hidden_layers
    with open(os.path.join(layers, "trained_layers.json"), "w") as f:
        json.dump({"format": "seam-trained-layers", "version": 1,
                   "architecture": model.config.model_type, "layers": [0, count],
                   "model_layers": count}, f)
    subprocess.run([seam, "merge", "--model", base, "--adapter", layers, "--out", out,
                    "--shard-bytes", "40000"], check=True, capture_output=True)
    ids = [(7 * i + 3) % model.config.vocab_size for i in range(23)]
    before = logits_of(model, ids)
    assert not model.load_state_dict(trained, strict=False).unexpected_keys
    want, got = logits_of(model, ids), logits_of(check_model.load_base(out), ids)
    moved = ((before - want).abs().max() / want.abs().max()).item()
    off = ((got - want).abs().max() / want.abs().max()).item()
    passed = off <= BOUND < moved
    print(f"{name} trained layers: logits off by {off:.1e}, they move by {moved:.1e}"
          + ("" if passed else "  FAILED"), flush=True)
    return passed


def main():
    ok = True
    with tempfile.TemporaryDirectory() as folder:
        maker = os.path.join(check_model.HERE, "make_tiny_models.py")
        names = ["tiny-d20", "tiny-d64", "tiny-sharded", "tiny-qwen2", "tiny-phi3-su"]
        subprocess.run([sys.executable, maker, folder, *names], check=True)
        for name in names:
            for rslora in (False, True):
                ok = check(sys.argv[1], folder, name, rslora) and ok
            ok = check_layers(sys.argv[1], folder, name) and ok
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
