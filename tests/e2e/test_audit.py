#!/usr/bin/env python3
"""`seam audit` against a running seamd, on tiny random models.

Goals: with the public model nearly every input and label is read out of the session's own stream, at 16
bits and at 2, whatever the codec and the layout of the rows; blocks at the client cost an attack that does
not run them more than one that does; a topology that shows something says so; no session is left.
Method: the command's JSON; the tokens are those of the byte tokenizer, so that chance is known.

    test_audit.py SEAMD SEAM
"""
import pathlib
import sys
import tempfile

from safetensors.numpy import load_file, save_file

from cli_fixture import Seam, colour_rows, run_check, write_rows, write_text_model
from service_fixture import Seamd, seamd_path

ROWS, BATCH = 16, 8
CODECS = {
    "f32": ["--codec", "f32"], "affine 2": ["--codec", "affine", "--bits", 2], "amaq": [],
    "exact": ["--gate-signal", "exact", "--steps", 1], "token": ["--granularity", "token", "--steps", 2],
    "rans": ["--codec", "affine", "--entropy", "rans"], "group": ["--codec", "group", "--group", 4],
    "aqsgd": ["--codec", "aqsgd", "--bits", 6, "--steps", 3], "dictionary": ["--codec", "bf16", "--dictionary", "on"],
    "all rows": ["--codec", "bf16", "--labelled-rows-only", "off", "--distinct-rows-only", "off"],
    "depth": ["--codec", "bf16", "--rows-max", 40],
}


class Case:
    def __init__(self, folder, seamd, seam):
        self.folder, self.seamd, self.path = folder, seamd, seam
        self.rows = write_rows(folder / "rows.jsonl", colour_rows(ROWS))
        for name, sizes in (("tied", {}), ("untied", {"tied": False, "seed": 2})):
            write_text_model(folder / name, layers=4, **sizes)
        write_text_model(folder / "other", layers=1)
        # As in trained models a token's own row outweighs what a block adds.
        write_text_model(folder / "strong", layers=4, seed=3)
        weights = folder / "strong" / "model.safetensors"
        tensors = load_file(str(weights))
        tensors["model.embed_tokens.weight"] *= 6
        save_file(tensors, str(weights))

    def command(self, *args, model="tied"):
        return ["audit", "--model", self.folder / model, "--data", self.rows, "--batch", BATCH, "--rank", 4, "--f32",
                "--threads", 1, "--server-model", model, *args]

    def audit(self, *args, **kwargs):
        return self.seam.json(*self.command(*args, **kwargs))


def lengths():
    """Inputs and labels of a step: every row of the data has as many bytes, give or take one digit."""
    rows = [len(r["prompt"]) + len(r["completion"]) for r in colour_rows(ROWS)]
    return BATCH * min(rows), BATCH * (max(rows) + 1)


def check_report(case):
    report = case.audit("--codec", "bf16")
    least, most = lengths()
    assert report["topology"] == "u_shaped" and report["codec"] == "bf16" and report["step"] == 0, report
    assert report["front_blocks"] == report["tail_blocks"] == 0
    assert least <= report["tokens"] <= most and 0 < report["labelled_tokens"] < report["tokens"], report
    assert set(report["sites"]) == {"fwd_in", "fwd_out", "bwd_out"}
    assert all(site["mean_bits"] == 16 and site["rows"] > 0 for site in report["sites"].values())
    inputs, labels = report["inputs"], report["labels"]
    assert set(inputs) == {"shown", "recovered", "embedding", "chance"}, inputs
    assert set(labels) == {"shown", "recovered", "gradient", "next_input", "model", "chance"}, labels
    assert not inputs["shown"] and not labels["shown"]
    assert inputs["recovered"] == inputs["embedding"]["top1"] == 1.0, inputs
    assert labels["recovered"] == labels["gradient"]["top1"] > 0.99, labels
    # Every label but each sequence's last is the next row's input; the others have an end token.
    ends = BATCH / report["labelled_tokens"]
    assert abs(labels["next_input"]["top1"] - (1 - ends)) < 1e-9, (labels, ends)
    for name in ("chance", "model"):
        assert 0 <= labels[name]["top1"] <= labels[name]["top5"] < 0.9, labels
    assert 0.02 < inputs["chance"]["top1"] < 0.3 and inputs["chance"]["top5"] < 0.7, inputs
    assert "quantization is not a defence" in report["statement"], report
    code, text, err = case.seam.run(*case.command("--codec", "bf16"))
    assert code == 0 and "attacking step 0" in err, err
    assert "nearest row of the embedding                100.0 %    100.0 %" in text, text
    assert report["statement"] in text


def check_codecs(case):
    for model in ("tied", "untied"):
        for name, args in CODECS.items():
            report = case.audit(*args, model=model)
            assert report["inputs"]["recovered"] > 0.95, (name, report)
            assert report["labels"]["gradient"]["top1"] > 0.8, (name, report)
            forward = [report["sites"][site] for site in ("fwd_in", "fwd_out")]
            bits = sum(s["mean_bits"] * s["rows"] for s in forward) / sum(s["rows"] for s in forward)
            if name == "amaq":  # as at the end of a run, not at its start
                assert report["step"] == 7 and abs(bits - 4) < 0.1, report
            if name == "affine 2":
                assert bits == 2, report


    # One bit costs something, though not enough: what is attacked is what the server decodes.
    report = case.audit("--codec", "affine", "--bits", 1, model="strong")
    assert report["inputs"]["recovered"] == 1.0, report
    assert 0.3 < report["labels"]["gradient"]["top1"] < 0.9, report


def check_blocks(case):
    for front, least in ((1, 0.95), (2, 0.6)):
        report = case.audit("--codec", "affine", "--bits", 6, "--front-blocks", front, model="strong")
        inputs = report["inputs"]
        assert set(inputs) == {"shown", "recovered", "embedding", "blocks", "context", "chance"}, inputs
        assert report["front_blocks"] == front and inputs["recovered"] > 0.95, report
        assert inputs["blocks"]["top1"] < inputs["context"]["top1"], inputs
        assert inputs["context"]["top1"] > least, inputs
        assert report["labels"]["gradient"]["top1"] > 0.9, report
    # Where a block adds more than the token's own row, the embedding alone tells little.
    inputs = case.audit("--codec", "f32", "--front-blocks", 2)["inputs"]
    assert inputs["embedding"]["top1"] < inputs["chance"]["top1"] < inputs["context"]["top5"], inputs
    # The rows are the same, whether others travel with them or not.
    split = ["--codec", "f32", "--tail-blocks", 1, "--front-blocks", 1]
    labels = case.audit(*split, model="strong")["labels"]
    assert labels["gradient"]["top1"] > 2 * labels["chance"]["top1"], labels
    assert case.audit(*split, "--labelled-rows-only", "off", model="strong")["labels"] == labels


def check_topologies(case):
    report = case.audit("--topology", "vanilla", "--consent", "labels", "--codec", "bf16")
    assert report["labels"]["shown"] and report["labels"]["recovered"] == 1.0, report
    assert "gradient" not in report["labels"] and not report["inputs"]["shown"]
    assert report["inputs"]["embedding"]["top1"] == 1.0
    # No tensor of the text travels: there is nothing to attack, and no server is asked.
    code, text, err = case.seam.run(*case.command("--topology", "adapter_exchange", "--consent", "text"), server=False)
    assert code == 0 and text.count("sent as they are") == 2, text + err


def check_refusals(case):
    for args, word in ((["--out", case.folder / "out"], "--out"), (["--resume", case.folder], "--resume"),
                       (["--topology", "vanilla"], "--consent"), (["--bits", 3], "--bits")):
        code, _, err = case.seam.run(*case.command(*args))
        assert code == 2 and word in err, (args, code, err)
    code, _, err = case.seam.run(*case.command("--codec", "bf16", "--tokens-max", 4))
    assert code == 4 and "rows.jsonl" in err, (code, err)
    code, text, _ = case.seam.run("audit", "--help", server=False)
    assert code == 0 and "usage: seam audit" in text
    assert not (case.folder / "out").exists()


def check_nothing_left(case):
    sessions = case.seam.json("session", "list")
    assert sessions == [] or sessions == {"sessions": []}, sessions


def main():
    seamd, seam = seamd_path(), sys.argv[2]
    with tempfile.TemporaryDirectory() as name:
        case = Case(pathlib.Path(name), seamd, seam)
        others = [f"--model={name}={case.folder / name}" for name in ("tied", "untied", "strong")]
        with Seamd(seamd, case.folder / "other", *others, "--allow-labels") as server:
            case.seam = Seam(seam, server.address)
            for check in (check_report, check_codecs, check_blocks, check_topologies, check_refusals, check_nothing_left):
                run_check(check, case)


if __name__ == "__main__":
    main()
