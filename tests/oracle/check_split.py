#!/usr/bin/env python3
"""Training through every cut against transformers + peft, live, on a tiny random Llama.

    check_split.py SEAMD SEAM

The same eight rows at each of five steps, all seven projections, clipped below half of their norm: the
losses, the norms before clipping and the adapter of `seam train` with blocks at the client (front,
tail, both; LoRA of either end alone) against AdamW on peft's model, which starts from the adapter
that a run of no learning exports.  In f32: losses and norms to 1e-5, adapter values to 1e-5.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import peft
import torch
import transformers
from safetensors.torch import load_file

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from cli_fixture import colour_rows, write_rows, write_text_model  # noqa: E402
from service_fixture import Seamd  # noqa: E402

# An eps of 1 keeps a step in proportion to its gradient, so that what is compared is every gradient, and
# not the sign of those that are all but zero.
LAYERS, STEPS, LR, EPS, CLIP = 4, 5, 2.0, 1.0, 0.3
CUTS = (((0, 0), None, range(4)), ((1, 0), "both", range(4)), ((0, 1), "both", range(4)),
        ((1, 1), "both", range(4)), ((2, 1), "both", range(4)), ((1, 1), "client", (0, 3)),
        ((1, 1), "server", (1, 2)))


def train(seam, server, folder, out, split, side, *args):
    side = ["--lora-side", side] if side is not None else []
    done = subprocess.run(
        [seam, "train", "--server", server.address, "--model", folder / "model", "--data",
         folder / "rows.jsonl", "--out", folder / out, "--batch", "8", "--rows-max", "80", "--rank",
         "4", "--targets", "q,k,v,o,gate,up,down", "--codec", "f32", "--f32", "--clip-norm",
         str(CLIP), "--front-blocks", str(split[0]), "--tail-blocks", str(split[1]), "--quiet",
         *side, *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / out / "report.json").read_text())["steps"]


def batches(rows):
    """Byte-level ids are the bytes and 3; 2 ends a row.  Labels: the completion and the end."""
    for row in rows:
        prompt = [3 + byte for byte in row["prompt"].encode()]
        rest = [3 + byte for byte in row["completion"].encode()] + [2]
        yield torch.tensor([prompt + rest]), torch.tensor([[-100] * len(prompt) + rest])


def expected(folder, rows, start):
    """Losses, norms and the adapter after STEPS steps of peft's model."""
    base = transformers.AutoModelForCausalLM.from_pretrained(
        folder / "model", torch_dtype=torch.float32, attn_implementation="eager")
    model = peft.PeftModel.from_pretrained(base, folder / start / "adapter", is_trainable=True)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=LR, eps=EPS, weight_decay=0.0)
    losses, norms = [], []
    for _ in range(STEPS):
        total = sum((labels != -100).sum().item() for _, labels in batches(rows))
        loss_sum = 0.0
        for ids, labels in batches(rows):
            logits = model(input_ids=ids).logits[0, :-1]
            loss = torch.nn.functional.cross_entropy(logits, labels[0, 1:], reduction="sum")
            (loss / total).backward()
            loss_sum += loss.item()
        losses.append(loss_sum / total)
        norms.append(torch.nn.utils.clip_grad_norm_(parameters, CLIP).item())
        optimizer.step()
        optimizer.zero_grad()
    return losses, norms, peft.get_peft_model_state_dict(model)


def main():
    seamd, seam = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_text_model(folder / "model", layers=LAYERS)
        rows = colour_rows(8)
        write_rows(folder / "rows.jsonl", rows)
        with Seamd(seamd, folder / "model") as server:
            for i, (split, side, layers) in enumerate(CUTS):
                train(seam, server, folder, f"start{i}", split, side, "--steps", "1", "--lr", "1e-30")
                steps = train(seam, server, folder, f"run{i}", split, side, "--steps", str(STEPS),
                              "--lr", str(LR), "--adam-eps", str(EPS))
                losses, norms, adapter = expected(folder, rows, f"start{i}")
                assert min(norms) > 2 * CLIP, norms
                mine = load_file(folder / f"run{i}" / "adapter" / "adapter_model.safetensors")
                assert mine.keys() == adapter.keys(), mine.keys() ^ adapter.keys()
                assert {int(key.split(".")[4]) for key in mine} == set(layers)
                worst = [max(abs(s["loss"] / loss - 1) for s, loss in zip(steps, losses)),
                         max(abs(s["grad_norm"] / norm - 1) for s, norm in zip(steps, norms)),
                         max((mine[key] - adapter[key]).abs().max().item() for key in mine)]
                print(f"cut {split}, LoRA {side or 'at the server'}: loss {worst[0]:.1e}, "
                      f"norm {worst[1]:.1e}, adapter {worst[2]:.1e}")
                assert max(worst) < 1e-5, worst


if __name__ == "__main__":
    main()
