#!/usr/bin/env python3
"""Every family through the service: ListModels names it, the client's greedy tokens by the server's
key/value cache are those of the same model in one process (run_model; that these are transformers',
tests/oracle/check_model.py checks), also where LongRoPE sends a sequence again; projections that
the model does not have, and an inference without room to send again, are refused by name.  And
`seam train` of each family: its own default projections, in the adapter's files too; and a prefix of a
model with a window and LongRoPE, up to where they begin.

    test_families.py SEAMD GENERATE_TOKENS RUN_MODEL SEAM
"""
import json
import pathlib
import subprocess
import sys
import tempfile

from cli_fixture import VOCAB, Seam, colour_rows, write_rows, write_tokenizer
from service_fixture import DEADLINE_S, Client, Seamd, generate_messages, grpc, seamd_path

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "oracle"))
import make_tiny_models  # noqa: E402
import numpy as np  # noqa: E402

NEW_TOKENS, ROWS_MAX = 40, 64
PROMPTS = (3, 17, 42, 64)
TARGETS = {"llama": 0x05, "qwen2": 0x05, "phi3": 0x80}
# Window, layers that have it, first position of LongRoPE's second set.
FACTS = {"tiny-llama31": (0, 0, 0), "tiny-qwen2": (0, 0, 0), "tiny-qwen2-window": (7, 2, 0),
         "tiny-phi3-window": (9, 2, 0), "tiny-phi3-long": (0, 0, 16), "tiny-phi3-su": (11, 2, 20)}


def generated(tool, server, model, targets, rows_max=ROWS_MAX):
    return subprocess.run(
        [tool, server.address, str(model), "tiny", str(targets), str(rows_max), str(NEW_TOKENS),
         *map(str, PROMPTS)], capture_output=True, text=True, timeout=DEADLINE_S)


def alone(run_model, model, first_id):
    done = subprocess.run([run_model, "generate", str(model), "f32", str(first_id),
                           str(NEW_TOKENS)], capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    return done.stdout.split()


def check_model(name, folder, seamd, tool, run_model):
    family = make_tiny_models.MODELS[name].get("family", "llama")
    model = folder / name
    make_tiny_models.main(str(folder), [name])
    with Seamd(seamd, model, "--insecure") as server:
        from seam.v1 import service_pb2
        with grpc.insecure_channel(server.address) as channel:
            listed = Client(channel).unary("ListModels", service_pb2.ListModelsRequest(),
                                           service_pb2.ListModelsResponse).models[0]
        assert listed.architecture == family, listed
        bits = sum(1 << (p - 1) for p in listed.projections)
        assert bits == (0x1C8 if family == "phi3" else 0x7F), listed
        assert (listed.window, listed.window_layers, listed.long_from) == FACTS[name], listed
        done = generated(tool, server, model, TARGETS[family])
        assert done.returncode == 0, (name, done.stdout, done.stderr)
        got = [line.split() for line in done.stdout.splitlines()]
        want = [alone(run_model, model, first_id) for first_id in PROMPTS]
        assert got == want, (name, got, want)
        other = generated(tool, server, model, 0x80 if family != "phi3" else 0x05)
        assert other.returncode == 3 and "config.lora.targets" in other.stdout, other
        assert family in other.stdout, other
        if name == "tiny-phi3-long":  # 17 rows must go at once, beside those of 3 slots
            small = generated(tool, server, model, TARGETS[family], rows_max=19)
            assert small.returncode == 3 and "LongRoPE" in small.stdout, small
            enough = generated(tool, server, model, TARGETS[family], rows_max=20)
            assert enough.stdout == done.stdout, (enough, done)
    print(f"{name}: {len(PROMPTS)} x {NEW_TOKENS} tokens equal")


def text_model(name, folder):
    sizes = dict(make_tiny_models.MODELS[name], vocab=VOCAB, shards=1)
    model = folder / f"{name}-text"
    make_tiny_models.save(str(model), make_tiny_models.config_of(sizes),
                          make_tiny_models.tensors_of(sizes, np.random.default_rng(5)))
    write_tokenizer(model)
    return model


def check_train(name, modules, folder, seamd, seam_path):
    model, out = text_model(name, folder), folder / f"{name}-run"
    rows = write_rows(folder / "rows.jsonl", colour_rows(12))
    with Seamd(seamd, model, "--insecure") as server:
        seam = Seam(seam_path, server.address)
        code, _, err = seam.run("train", "--model", model, "--data", rows, "--out", out, "--quiet",
                                "--steps", 30, "--batch", 4, "--lr", 0.02, "--codec", "bf16")
        assert code == 0, (name, err)
    report = json.loads((out / "report.json").read_text())
    losses = [step["loss"] for step in report["steps"]]
    assert losses[-1] < 0.9 * losses[0], (name, losses)
    config = json.loads((out / "adapter" / "adapter_config.json").read_text())
    assert sorted(config["target_modules"]) == modules, config
    print(f"{name}: trained {modules}, loss {losses[0]:.3f} -> {losses[-1]:.3f}")


def check_prefix(name, folder, seamd, seam_path):
    """Window and pretraining context of 70: what the prefix leaves is for the text."""
    model, out = text_model(name, folder), folder / f"{name}-prefix"
    trained = folder / f"{name}-prefix-30"
    rows = write_rows(folder / "rows.jsonl", colour_rows(12))
    with Seamd(seamd, model, "--insecure") as server:
        seam = Seam(seam_path, server.address)

        def train(tokens):
            return seam.run("train", "--model", model, "--data", rows, "--out", f"{out}-{tokens}",
                            "--quiet", "--prefix-tokens", tokens, "--steps", 20, "--batch", 4, "--lr", 0.05,
                            "--codec", "bf16")
        for tokens, words in ((70, "70 leave none of the model's sliding_window, 70"),
                              (60, "over the limit of 11")):
            code, _, err = train(tokens)
            assert code != 0 and words in err, (tokens, code, err)
        code, _, err = train(30)
        assert code == 0, err
        code, text, err = seam.run("generate", "--model", model, "--adapter", trained / "adapter",
                                   "--new-tokens", 6, "a")
        assert code == 0 and text, err
    losses = [step["loss"] for step in json.loads((trained / "report.json").read_text())["steps"]]
    assert losses[-1] < losses[0], losses
    print(f"{name}: a prefix of 30 trained, loss {losses[0]:.3f} -> {losses[-1]:.3f}")


def main():
    seamd, tool, run_model = seamd_path(), sys.argv[2], sys.argv[3]
    with tempfile.TemporaryDirectory() as folder:
        generate_messages(folder)
        for name in FACTS:
            check_model(name, pathlib.Path(folder), seamd, tool, run_model)
        for name, modules in (("tiny-phi3-long", ["qkv_proj"]),
                              ("tiny-qwen2-window", ["q_proj", "v_proj"])):
            check_train(name, modules, pathlib.Path(folder), seamd, sys.argv[4])
        check_prefix("tiny-phi3-wide", pathlib.Path(folder), seamd, sys.argv[4])


if __name__ == "__main__":
    main()
