#!/usr/bin/env python3
"""Training through every cut against transformers + peft, live, on a tiny random Llama.

    check_split.py SEAMD SEAM

The same eight rows at each of five steps, all seven projections, clipped below half of their norm: the
losses, the norms before clipping and what is trained by `seam train` with blocks at the client (front,
tail, both; LoRA of either end alone; a prefix; the server's blocks in full; the loss at the server)
against AdamW on transformers' or peft's model, which starts from what a run of no learning exports.  In
f32: losses and norms to 1e-5, values to 1e-5.
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
LAYERS, STEPS, LR, EPS, CLIP, PREFIX_CLIP = 4, 5, 2.0, 1.0, 0.3, 0.1
CUTS = (((0, 0), None, range(4)), ((1, 0), "both", range(4)), ((0, 1), "both", range(4)),
        ((1, 1), "both", range(4)), ((2, 1), "both", range(4)), ((1, 1), "client", (0, 3)),
        ((1, 1), "server", (1, 2)))
VANILLA = ("--topology", "vanilla", "--consent", "labels")
# What else blocks at the client go with: a cut, the trained layers, options.
PREFIX_CUTS = (((1, 1), ()), ((2, 0), ()), ((0, 1), ()), ((2, 0), VANILLA))
FULL_CUTS = (((1, 1), (1, 2), ()), ((2, 0), (2, 3), ()), ((0, 1), (0, 1, 2), ()), ((1, 0), (1, 2, 3), VANILLA))
LORA = ("--rank", "4", "--targets", "q,k,v,o,gate,up,down")


def train(seam, server, folder, out, split, clip, *args):
    done = subprocess.run(
        [seam, "train", "--server", server.address, "--model", folder / "model", "--data",
         folder / "rows.jsonl", "--out", folder / out, "--batch", "8", "--rows-max", "80", "--codec",
         "f32", "--f32", "--clip-norm", str(clip), "--front-blocks", str(split[0]), "--tail-blocks",
         str(split[1]), "--quiet", *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / out / "report.json").read_text())["steps"]


def batches(rows):
    """Byte-level ids are the bytes and 3; 2 ends a row.  Labels: the completion and the end."""
    for row in rows:
        prompt = [3 + byte for byte in row["prompt"].encode()]
        rest = [3 + byte for byte in row["completion"].encode()] + [2]
        yield torch.tensor([prompt + rest]), torch.tensor([[-100] * len(prompt) + rest])


def base_model(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder / "model", torch_dtype=torch.float32, attn_implementation="eager")


def with_adapter(folder, start):
    model = peft.PeftModel.from_pretrained(base_model(folder), folder / start / "adapter",
                                           is_trainable=True)
    return model, lambda: peft.get_peft_model_state_dict(model)


def with_prefix(folder, start):
    """peft loads no prefix to train it: its one table has the exported values."""
    config = peft.PeftConfig.from_pretrained(folder / start / "adapter")
    config.inference_mode = False
    model = peft.get_peft_model(base_model(folder), config)
    values = load_file(folder / start / "adapter" / "adapter_model.safetensors")["prompt_embeddings"]
    with torch.no_grad():
        model.prompt_encoder["default"].embedding.weight.copy_(values)
    return model, lambda: peft.get_peft_model_state_dict(model)


def in_full(folder, layers):
    """Of the whole model these layers are trained."""
    model = base_model(folder)
    inside = {name: p for name, p in model.named_parameters()
              if name.startswith(tuple(f"model.layers.{layer}." for layer in layers))}
    for name, p in model.named_parameters():
        p.requires_grad_(name in inside)
    return model, lambda: {name: p.detach() for name, p in inside.items()}


def expected(rows, model, values, clip, weight_decay=0.0):
    """Losses, norms and what was trained after STEPS steps."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=LR, eps=EPS, weight_decay=weight_decay)
    losses, norms = [], []
    for _ in range(STEPS):
        total = sum((labels != -100).sum().item() for _, labels in batches(rows))
        loss_sum = 0.0
        for ids, labels in batches(rows):
            logits = model(input_ids=ids).logits[0, :-1]
            loss = torch.nn.functional.cross_entropy(logits[-labels.shape[1] + 1:], labels[0, 1:],
                                                     reduction="sum")
            (loss / total).backward()
            loss_sum += loss.item()
        losses.append(loss_sum / total)
        norms.append(torch.nn.utils.clip_grad_norm_(parameters, clip).item())
        optimizer.step()
        optimizer.zero_grad()
    return losses, norms, values()


class Runs:
    def __init__(self, seam, server, folder, rows):
        self.seam, self.server, self.folder, self.rows, self.count = seam, server, folder, rows, 0

    def start(self, split, *args):
        """What a run of no learning exports is where training begins."""
        self.count += 1
        train(self.seam, self.server, self.folder, f"start{self.count}", split, CLIP, "--steps", "1",
              "--lr", "1e-30", *args)
        return f"start{self.count}"

    def compare(self, label, split, args, model, values, clip=CLIP, file="adapter_model.safetensors"):
        out = f"run{self.count}"
        steps = train(self.seam, self.server, self.folder, out, split, clip, "--steps", str(STEPS),
                      "--lr", str(LR), "--adam-eps", str(EPS), *args)
        losses, norms, theirs = expected(self.rows, model, values, clip)
        assert min(norms) > 2 * clip, norms
        mine = load_file(self.folder / out / "adapter" / file)
        assert mine.keys() == theirs.keys(), mine.keys() ^ theirs.keys()
        worst = [max(abs(s["loss"] / loss - 1) for s, loss in zip(steps, losses)),
                 max(abs(s["grad_norm"] / norm - 1) for s, norm in zip(steps, norms)),
                 max((mine[key] - theirs[key]).abs().max().item() for key in mine)]
        print(f"cut {split}, {label}: loss {worst[0]:.1e}, norm {worst[1]:.1e}, values {worst[2]:.1e}",
              flush=True)
        assert max(worst) < 1e-5, worst
        return mine


def main():
    seamd, seam = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_text_model(folder / "model", layers=LAYERS)
        rows = colour_rows(8)
        write_rows(folder / "rows.jsonl", rows)
        with Seamd(seamd, folder / "model", "--sessions-max", "96", "--allow-labels") as server:
            runs = Runs(seam, server, folder, rows)
            for split, side, layers in CUTS:
                args = [*LORA, *(["--lora-side", side] if side is not None else [])]
                start = runs.start(split, *args)
                mine = runs.compare(f"LoRA {side or 'at the server'}", split, args,
                                    *with_adapter(folder, start))
                assert {int(key.split(".")[4]) for key in mine} == set(layers)
            for front in (1, 2):
                args = [*LORA, *VANILLA]
                runs.compare("LoRA both, vanilla", (front, 0), args,
                             *with_adapter(folder, runs.start((front, 0), *args)))
            for split, more in PREFIX_CUTS:
                args = ["--prefix-tokens", "5", *more]
                runs.compare(" ".join(["prefix", *more[1:2]]), split, args,
                             *with_prefix(folder, runs.start(split, *args)), clip=PREFIX_CLIP)
            for split, layers, more in FULL_CUTS:
                runs.count += 1
                runs.compare(" ".join(["in full", *more[1:2]]), split, ["--full", *more],
                             *in_full(folder, layers), file="trained_layers.safetensors")


if __name__ == "__main__":
    main()
