#!/usr/bin/env python3
"""An adapter exchange against transformers + peft, live, on a tiny random Llama.

    check_exchange.py SEAMD SEAM

`seam train --topology adapter_exchange` with codec f32, in which the server has the whole model and the
optimizer runs at both ends, against AdamW on peft's model from the same start: LoRA on q and v and on all seven
projections, prefixes, weight decay, parameters once and every step.  Everything as in check_split.py, whose
model, rows, steps and tolerances these are.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

from safetensors.torch import load_file

from check_split import (CLIP, EPS, LAYERS, LR, PREFIX_CLIP, STEPS, expected, with_adapter,
                         with_prefix)

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from cli_fixture import colour_rows, write_rows, write_text_model  # noqa: E402
from service_fixture import Seamd  # noqa: E402

LORA = ("--rank", "4", "--targets")
CASES = (((*LORA, "q,v"), CLIP, 0.0), ((*LORA, "q,k,v,o,gate,up,down"), CLIP, 0.0),
         ((*LORA, "q,v"), CLIP, 0.01), (("--prefix-tokens", "5"), PREFIX_CLIP, 0.0))


def train(seam, server, folder, out, clip, *args):
    done = subprocess.run(
        [seam, "train", "--server", server.address, "--model", folder / "model", "--data",
         folder / "rows.jsonl", "--out", folder / out, "--batch", "8", "--rows-max", "80", "--codec",
         "f32", "--f32", "--clip-norm", str(clip), "--topology", "adapter_exchange", "--consent",
         "text", "--quiet", *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / out / "report.json").read_text())["steps"]


def main():
    seamd, seam = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_text_model(folder / "model", layers=LAYERS)
        rows = colour_rows(8)
        write_rows(folder / "rows.jsonl", rows)
        with Seamd(seamd, folder / "model", "--allow-text") as server:
            for adapter_args, clip, decay in CASES:
                train(seam, server, folder, "start", clip, *adapter_args, "--steps", "1", "--lr", "1e-30")
                peft_model = (with_prefix if adapter_args[0] == "--prefix-tokens" else with_adapter)
                losses, norms, adapter = expected(rows, *peft_model(folder, "start"), clip, decay)
                assert min(norms) > 2 * clip, norms
                for resend in ((), ("--resend-parameters",)):
                    steps = train(seam, server, folder, "run", clip, *adapter_args, *resend, "--steps", str(STEPS), "--lr",
                                  str(LR), "--adam-eps", str(EPS), "--weight-decay", str(decay))
                    mine = load_file(folder / "run" / "adapter" / "adapter_model.safetensors")
                    assert mine.keys() == adapter.keys(), mine.keys() ^ adapter.keys()
                    worst = [max(abs(s["loss"] / loss - 1) for s, loss in zip(steps, losses)),
                             max(abs(s["grad_norm"] / norm - 1) for s, norm in zip(steps, norms)),
                             max((mine[key] - adapter[key]).abs().max().item() for key in mine)]
                    moved = max((mine[key] - start).abs().max().item() for key, start in load_file(
                        folder / "start" / "adapter" / "adapter_model.safetensors").items())
                    print(f"{' '.join(adapter_args)}, decay {decay} {' '.join(resend)}: loss {worst[0]:.1e}, "
                          f"norm {worst[1]:.1e}, adapter {worst[2]:.1e} (moved by {moved:.1e})", flush=True)
                    assert moved > 1e-2 and max(worst) < 1e-5, (worst, moved)


if __name__ == "__main__":
    main()
