#!/usr/bin/env python3
"""`seam bench codecs` against a running seamd, on a tiny random model.

Goals: the table says what the runs' own reports say; finished runs are kept and only those; what
cannot be run, or diverges, is in the table with its reason; bad options name the option.

    test_bench_codecs.py SEAMD SEAM
"""
import json
import pathlib
import signal
import subprocess
import sys
import tempfile

from cli_fixture import Seam, colour_rows, write_rows, write_text_model
from service_fixture import DEADLINE_S, Seamd, save_file, seamd_path, wait_for
from safetensors.numpy import load_file  # after service_fixture, which skips without it

SITES = ["fwd_in", "fwd_out", "bwd_out", "bwd_in"]
STEPS = 6
EXIT_USAGE, EXIT_UNAVAILABLE, EXIT_INPUT, EXIT_IO, EXIT_INTERRUPTED = 2, 3, 4, 5, 130


class Case:
    def __init__(self, folder, seam):
        self.folder, self.seam = folder, seam
        self.args = ["bench", "codecs", "--model", folder / "model",
                     "--data", write_rows(folder / "train.jsonl", colour_rows(40)),
                     "--eval-data", write_rows(folder / "eval.jsonl", colour_rows(6, begin=100)),
                     "--steps", STEPS, "--batch", 4, "--rank", 4]

    def bench(self, out, *args, **kwargs):
        return self.seam.json(*self.args, "--out", self.folder / out, *args, **kwargs)

    def row(self, document, label, bits):
        return next(r for r in document["rows"] if (r["label"], r["bits"]) == (label, bits))

    def report(self, out, run):
        return json.loads((self.folder / out / run / "report.json").read_text())


def near(a, b):
    return abs(a - b) <= 1e-6 * max(1.0, abs(b))


def check_figures(case, out, row, link):
    """Every figure of a row with one run, from the run's report alone."""
    [run] = row["runs"]
    report = case.report(out, run["folder"])
    steps, figures = report["steps"], {k: v and v["mean"] for k, v in row["figures"].items()}
    assert len(steps) == STEPS == run["step_count"] and row["run_count"] == 1
    assert all(v is None or v["spread"] == 0 for v in row["figures"].values())

    def total(name):
        return sum(s[name] for s in steps)

    payload = sum(s["sites"][site]["payload_bytes"] for s in steps for site in SITES)
    wire = total("bytes_sent") + total("bytes_received")
    assert figures["payload_bytes_run"] == payload and figures["total_bytes_run"] == wire
    assert near(figures["payload_bytes_step"], payload / STEPS)
    assert near(figures["total_bytes_step"], wire / STEPS)
    tail = [s["bytes_sent"] + s["bytes_received"] for s in steps[-2:]]  # a quarter of 6, rounded up
    assert near(figures["total_bytes_step_tail"], sum(tail) / 2)
    totals = report["totals"]
    assert wire == totals["bytes_sent"] + totals["bytes_received"]
    assert near(figures["tokens_per_second"], totals["tokens_per_second"])
    for name in ["encode_seconds", "decode_seconds", "server_codec_seconds"]:
        assert figures[name + "_step"] > 0 and near(figures[name + "_step"], totals[name] / STEPS)
    for site in SITES:
        of_site = [s["sites"][site] for s in steps]
        rows = sum(s["rows"] for s in of_site)
        mean = sum(s["mean_bits"] * s["rows"] for s in of_site) / rows if rows else 0
        assert near(figures[site + "_bits_run"], mean)
        assert near(figures[site + "_bits_last"], of_site[-1]["mean_bits"])
    assert report["data"] == {"train_rows": 8, "eval_rows": 6} and near(figures["epochs"], 3.0)
    after = report["eval"]["after"]
    through = report["eval"].get("after_quantized", after)
    assert near(figures["loss"], after["loss"]) and near(figures["loss_through"], through["loss"])
    assert figures["exact_match"] == after["exact_match"]
    assert figures["exact_match_through"] == through["exact_match"]
    assert figures["accuracy"] is figures["accuracy_through"] is None  # no row has choices

    compute = total("head_seconds") + total("encode_seconds") + total("decode_seconds")
    up, down = 8 * total("bytes_sent") / link, 8 * total("bytes_received") / link
    in_turn = (compute + total("server_seconds") + up + down) / STEPS + 2 * 1 * 0.02
    overlapped = max(compute, total("server_seconds"), up, down, STEPS * 2 * 0.02) / STEPS
    assert [x["rate"] for x in row["links"]] == ["50mbit", "1.5kbit"]
    assert near(row["links"][1]["step_seconds"], in_turn)
    assert near(row["links"][1]["step_seconds_overlapped"], overlapped)


ARGS = ["--codecs", "bf16,affine", "--bits", "3", "--seeds", "7", "--train-rows", "8",
        "--exact-match", "on", "--link", "50mbit,1.5kbit", "--rtt", "20ms"]


def check_table(case):
    document = case.bench("one", *ARGS)
    assert [(r["label"], r["bits"], r["status"]) for r in document["rows"]] == \
        [("bf16", None, "done"), ("affine", 3, "done")]
    assert json.loads((case.folder / "one" / "bench.json").read_text()).keys() == document.keys()
    for row in document["rows"]:
        check_figures(case, "one", row, link=1500)
        assert not row["runs"][0]["reused"]
    bf16, affine = document["rows"]
    assert bf16["figures"]["fwd_in_bits_last"]["mean"] == 16
    assert affine["figures"]["fwd_in_bits_last"]["mean"] == 3
    assert affine["figures"]["payload_bytes_run"]["mean"] < bf16["figures"]["payload_bytes_run"]["mean"]
    assert affine["figures"]["loss"]["mean"] != affine["figures"]["loss_through"]["mean"]
    # The same rows in the same order, the same adapter at the start.
    runs = [case.report("one", r["runs"][0]["folder"])["steps"] for r in document["rows"]]
    assert [s["tokens"] for s in runs[0]] == [s["tokens"] for s in runs[1]]
    page = (case.folder / "one" / "bench.md").read_text()
    assert "| `affine` | 3 |" in page and "2 * micros * RTT" in page and "| 50mbit | 1.5kbit |" in page
    assert case.seam.json("session", "list")["sessions"] == []


def check_resume(case):
    """Runs of the same options are kept, others are made; without a server as long as none is."""
    absent = Seam(case.seam.binary, "127.0.0.1:1")
    first = json.loads((case.folder / "one" / "bench.json").read_text())
    kept = absent.json(*case.args, "--out", case.folder / "one", *ARGS)
    assert len(kept["rows"]) == 2 and all(r["runs"][0]["reused"] for r in kept["rows"])
    for before, after in zip(first["rows"], kept["rows"]):
        assert before["label"] == after["label"] and after["status"] == "done"
        for name, figure in before["figures"].items():  # the files hold ten digits
            again = after["figures"][name]
            assert figure is again is None or near(again["mean"], figure["mean"]), name
    more = case.bench("one", *ARGS, "--seeds", "7,8", "--codecs", "affine")
    [row] = more["rows"]
    assert [(r["seed"], r["reused"]) for r in row["runs"]] == [(7, True), (8, False)]
    losses = [r["figures"]["loss"] for r in row["runs"]]
    assert near(row["figures"]["loss"]["mean"], sum(losses) / 2) and losses[0] != losses[1]
    assert near(row["figures"]["loss"]["spread"], max(losses) - min(losses))
    assert row["run_count"] == 2 and row["status"] == "done"
    changed = case.bench("one", *ARGS, "--codecs", "affine", "--lr", "2e-3")
    assert not changed["rows"][0]["runs"][0]["reused"]
    again = case.bench("one", *ARGS, "--codecs", "affine", "--lr", "2e-3", "--resume", "off")
    assert not again["rows"][0]["runs"][0]["reused"]
    figures = [d["rows"][0]["figures"] for d in (changed, again)]
    for name in ["loss", "loss_through", "payload_bytes_run", "fwd_in_bits_run"]:
        assert figures[0][name] == figures[1][name], name


def check_refused(case):
    """All rows: what this version lacks is said in the table."""
    document = case.bench("all", "--bits", "4", "--seeds", "1", "--train-rows", "8")
    with_reason = [r for r in document["rows"] if r["status"] == "unavailable"]
    assert len(document["rows"]) == 12
    for row in document["rows"]:
        assert row["status"] in ("done", "unavailable"), row
    for row in with_reason:
        assert row["reason"] and row["run_count"] == 0 and row["links"] == []
    page = (case.folder / "all" / "bench.md").read_text()
    assert page.count("unavailable: ") == len(with_reason)


def check_diverged(case):
    """A value beyond what the codec takes ends the run: a result, kept like one."""
    model, data = case.folder / "wild", case.folder / "wild.jsonl"
    write_text_model(model)
    tensors = load_file(model / "model.safetensors")
    tensors["model.embed_tokens.weight"][3 + ord("~")] = 1e38
    save_file(tensors, model / "model.safetensors")
    write_rows(data, colour_rows(10) + [{"prompt": "~", "completion": " x"}])
    with Seamd(seamd_path(), model) as server:
        seam = Seam(case.seam.binary, server.address)
        args = [*case.args, "--model", model, "--data", data, "--out", case.folder / "wild-out",
                "--codecs", "affine", "--bits", "4", "--seeds", "1,2"]
        [row] = seam.json(*args)["rows"]
        assert row["status"] == "diverged" and "not finite" in row["reason"], row
        assert row["run_count"] == 0 and row["figures"] == {}, row
        assert [(r["status"], r["reused"]) for r in row["runs"]] == [("diverged", False)] * 2
        assert "0 diverged: " in (case.folder / "wild-out" / "bench.md").read_text()
        [row] = seam.json(*args)["rows"]
        assert [(r["status"], r["reused"]) for r in row["runs"]] == [("diverged", True)] * 2


def check_interrupt(case):
    """Cut in mid-run: the table has what was done; the next call makes the rest."""
    for steps in (300, 1000, 3000, 10000):  # more where it ended before the signal came
        out = case.folder / f"cut-{steps}"
        args = [*map(str, case.args), "--out", str(out), "--codecs", "affine,bf16", "--bits", "4",
                "--seeds", "1", "--steps", str(steps)]
        runner = subprocess.Popen([case.seam.binary, *args, "--quiet", "--server", case.seam.server],
                                  stdout=subprocess.DEVNULL)
        wait_for(lambda: runner.poll() is not None or (out / "bf16-s1" / "session.json").exists(),
                 what="second run")
        runner.send_signal(signal.SIGINT)
        if runner.wait(DEADLINE_S) != 0:
            break
    assert runner.returncode == EXIT_INTERRUPTED
    document = json.loads((out / "bench.json").read_text())
    assert [r["status"] for r in document["rows"]] == ["done", "pending"]
    # The run that was cut has no session any more: no run that could go on stands in its folder.
    assert case.seam.json("session", "list")["sessions"] == []
    cut = out / "bf16-s1"
    assert (cut / "report.json").exists() and not (cut / "session.json").exists()
    train = [case.args[i] for i in range(2, len(case.args)) if "--eval-data" not in
             (case.args[i], case.args[i - 1])]
    case.seam.json("train", *train, "--steps", 1, "--out", cut, "--delete-session")
    document = case.seam.json(*args)
    assert [r["status"] for r in document["rows"]] == ["done", "done"]
    assert [r["runs"][0]["reused"] for r in document["rows"]] == [True, False]


def check_bad_options(case):
    out = ["--out", case.folder / "bad"]
    for args, code, text in [
            (["--codecs", "affine,zip"], EXIT_USAGE, "--codecs: 'zip'"),
            (["--codecs", "affine,"], EXIT_USAGE, "--codecs: ''"),
            (["--link", "50mbps"], EXIT_USAGE, "--link: '50mbps'"),
            (["--link", "0mbit"], EXIT_USAGE, "--link: '0mbit'"),
            (["--rtt", "20"], EXIT_USAGE, "--rtt: '20'"),
            (["--train-rows", "0"], EXIT_USAGE, "--train-rows"),
            (["--bits", "17"], EXIT_USAGE, "--bits: '17'"),
            (["--seeds", "1,1"], EXIT_USAGE, "--seeds: 1 is there twice"),
            (["--codec", "amaq"], EXIT_USAGE, "--codec: "),
            (["--seed", "3"], EXIT_USAGE, "--seed: "),
            (["--nosuch"], EXIT_USAGE, "--nosuch"),
            (["--steps", "x"], EXIT_USAGE, "--steps"),
            (["--codecs", "affine", "--data", "nosuch.jsonl"], EXIT_IO, "nosuch.jsonl"),
            (["--codecs", "affine", "--rank", "100000"], EXIT_USAGE, "--rank: 100000"),
            (["--codecs", "affine", "--all-layer-bits", "9"], EXIT_INPUT, "affine-4bit-s1: ")]:
        got, stdout, err = case.seam.run(*case.args, *out, *args)
        assert got == code and text in err, (args, got, stdout, err)
    no_eval = [a for i, a in enumerate(case.args)
               if a != "--eval-data" and case.args[i - 1] != "--eval-data"]
    got, _, err = case.seam.run(*no_eval, *out)
    assert got == EXIT_USAGE and "--eval-data" in err
    absent = Seam(case.seam.binary, "127.0.0.1:1")
    got, _, err = absent.run(*case.args, *out, "--codecs", "bf16")
    assert got == EXIT_UNAVAILABLE and "127.0.0.1:1" in err
    got, _, err = case.seam.run("bench", server=False)
    assert got == EXIT_USAGE and "codecs" in err
    got, stdout, _ = case.seam.run("bench", "--help", server=False)
    assert got == 0 and "codecs" in stdout
    got, stdout, _ = case.seam.run("bench", "codecs", "--help", server=False)
    assert got == 0 and "amaq-waterfill" in stdout and "2 * micros * RTT" in stdout


def main():
    seam_path = sys.argv[2]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_text_model(folder / "model")
        with Seamd(seamd_path(), folder / "model", "--sessions-max", "8") as server:
            case = Case(folder, Seam(seam_path, server.address))
            for check in [check_table, check_resume, check_refused, check_diverged,
                          check_interrupt, check_bad_options]:
                check(case)
                print(f"{check.__name__}: passed", flush=True)


if __name__ == "__main__":
    main()
