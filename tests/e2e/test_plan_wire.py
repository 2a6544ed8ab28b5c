#!/usr/bin/env python3
"""What `seam plan` and a run's report predict of a step's bytes is what the step sends.

Goals: payloads to the byte for codecs without gates, state or entropy coder; never less than travels
for those with state or an entropy coder; near it for amaq; all this in every topology and for the paper's
presets.  `seam plan` with a run's options gives the numbers of the run's report, the memory that the
server reserves for it, and refuses what the run is refused in the same words.  Bytes on the wire differ
by no more than what opens the stream, which no step has.  Method: short runs on a tiny random model,
their steps' sums against the prediction; full rows against WIRE.md's arithmetic by hand.

    test_plan_wire.py SEAMD SEAM
"""
import json
import pathlib
import sys
import tempfile

from cli_fixture import Seam, colour_rows, run_check, write_rows, write_text_model
from service_fixture import Seamd, seamd_path

SITES = ["fwd_in", "fwd_out", "bwd_out", "bwd_in"]
SENT = ["fwd_in", "bwd_out", "lora_a", "lora_b", "prefix"]
HEADER = 64
OPENING = 600  # bytes: HEADERS of the call, SETTINGS, Attach and Attached
EXACT = {
    "f32": ["--codec", "f32", "--labelled-rows-only", "off", "--distinct-rows-only", "off",
            "--elide-input-gradient", "off"],
    "bf16": ["--codec", "bf16"], "affine": ["--codec", "affine", "--bits", 3],
    "mixed": ["--codec", "affine", "--codec-fwd-in", "bf16"], "tensor": ["--codec", "tensor"],
    "channel": ["--codec", "channel"], "group": ["--codec", "group", "--group", 8],
    "micros": ["--codec", "affine", "--rows-max", 40, "--batch", 9],
    "blocks": ["--codec", "bf16", "--front-blocks", 1, "--tail-blocks", 1],
}
MOST = {"aqsgd": ["--codec", "aqsgd"], "rans": ["--codec", "affine", "--entropy", "rans"],
        "dictionary": ["--codec", "affine", "--dictionary", "on"]}
AMAQ = {"amaq": [], "gates": ["--allocator", "gates"], "token": ["--granularity", "token"],
        "amaq_micros": ["--rows-max", 40, "--batch", 9]}
VANILLA = {"vanilla": ["--codec", "affine", "--topology", "vanilla", "--consent", "labels"],
           "vanilla_amaq": ["--topology", "vanilla", "--consent", "labels"]}
TEXT = ["--topology", "adapter_exchange", "--consent", "text"]
EXCHANGE = {"once": TEXT, "resend": [*TEXT, "--resend-parameters"], "exchange_f32": [*TEXT, "--codec", "f32"],
            "exchange_group": [*TEXT, "--codec", "group", "--resend-parameters"],
            "exchange_all": [*TEXT, "--targets", "q,k,v,o,gate,up,down", "--bits", 3],
            "exchange_prefix": [*TEXT, "--prefix-tokens", 3], "exchange_micros": [*TEXT, "--rows-max", 40,
                                                                                  "--batch", 9]}
EXCHANGE_AMAQ = {"fill_once": [], "fill": ["--resend-parameters"],
                 "exchange_gates": ["--resend-parameters", "--allocator", "gates"],
                 "fill_prefix": ["--resend-parameters", "--prefix-tokens", 3],
                 "exchange_preset": ["--preset", "boolq@qwen2.5-7b"]}


class Case:
    def __init__(self, folder, seam):
        self.folder, self.seam, self.model = folder, seam, folder / "model"
        self.rows = write_rows(folder / "train.jsonl", colour_rows(40))

    def options(self, args, steps):
        own = {"--rank", "--prefix-tokens", "--adapter", "--full"} & set(args)
        return ["--model", self.model, "--data", self.rows, "--steps", steps,
                *([] if own else ["--rank", 4]), *([] if "--batch" in args else ["--batch", 4]), *args]

    def run(self, name, args, steps=6, link=()):
        """The report of a run with these options, and what `seam plan` says of them."""
        options = self.options(args, steps)
        code, out, err = self.seam.run("train", *options, "--out", self.folder / name, "--quiet",
                                       "--delete-session", *link)
        assert code == 0, (name, out, err)
        assert "predicted: " in out, out
        report = json.loads((self.folder / name / "report.json").read_text())
        return report, self.plan(*options, *link)

    def plan(self, *options):
        return self.seam.json("plan", *options, "--insecure", "--device", "cpu", server=False)


def near(a, b, share=1e-8):
    return abs(a - b) <= share * max(abs(a), abs(b))


def same(a, b):
    """Two predictions; the report rounds to ten digits."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return near(a, b) if isinstance(a, float) else a == b


def payloads(report):
    """Of each site that anything went over, and of the boundaries of other topologies than
    adapter_exchange, the mean of the steps."""
    steps = report["steps"]
    sums = {site: sum(s["sites"][site]["payload_bytes"] for s in steps) / len(steps)
            for site in steps[0]["sites"]}
    exchanges = report["config"]["topology"] == "adapter_exchange"
    return {site: bytes_ for site, bytes_ in sums.items() if (bytes_ > 0 if exchanges else site in SITES)}


def check_grade(report):
    """The grade is of the run's own sums."""
    grade, steps = report["prediction"]["grade"], len(report["steps"])
    wire, measured = report["prediction"]["wire"], payloads(report)
    for name, way in (("sent", "sent"), ("received", "received")):
        row = grade[f"bytes_{name}"]
        assert near(row["measured"], report["totals"][f"bytes_{name}"] / steps), row
        assert near(row["predicted"], wire[way]["bytes"]), row
        assert near(row["ratio"], row["measured"] / row["predicted"]), row
        parts = [v for part, v in wire[way].items() if part != "bytes"]
        assert near(sum(parts), wire[way]["bytes"]), wire[way]
        row = grade[f"payload_{name}"] if f"payload_{name}" in grade else None
        over = sum(v for site, v in measured.items() if (site in SENT) == (name == "sent"))
        assert row is None or near(row["measured"], over), row
    row = grade["memory"]
    assert row["measured"] == report["peak_rss_bytes"] and row["predicted"] > 0, row
    assert "seconds" not in grade, grade


def check_opening(report):
    """Wire bytes are the prediction's and the stream's opening, once."""
    for name in ("sent", "received"):
        total = report["totals"][f"bytes_{name}"]
        predicted = report["prediction"]["wire"][name]["bytes"] * len(report["steps"])
        assert 0 < total - predicted < OPENING, (name, total, predicted)


def check_exact(case):
    for name, args in EXACT.items():
        report, plan = case.run(name, args)
        wire = report["prediction"]["wire"]
        assert wire["exact"] and wire["at_most"] and wire["rows"] == "data", (name, wire)
        for site, bytes_ in payloads(report).items():
            assert near(wire["sites"][site]["payload_bytes"], bytes_), (name, site, wire, bytes_)
        check_grade(report)
        check_opening(report)
        plan["wire"]["round_trips"] = wire["round_trips"]  # those of the depth that a run is granted
        assert same(plan["wire"], wire), (name, plan["wire"], wire)
        if "--rows-max" not in args:
            assert same(plan["client"], report["prediction"]["client"]), name
        page = (case.folder / name / "report.html").read_text()
        assert "Predicted and measured" in page and "bytes sent a step" in page


def check_most(case):
    for name, args in MOST.items():
        report, plan = case.run(name, args)
        wire = report["prediction"]["wire"]
        assert not wire["exact"] and wire["at_most"], (name, wire)
        for site, bytes_ in payloads(report).items():
            assert wire["sites"][site]["payload_bytes"] >= bytes_ - 1e-6, (name, site, wire, bytes_)
        assert same(plan["wire"], wire), name


def check_amaq(case):
    """Widths follow the loss: the sum over both ways is near, each way within what the allocator
    moves from one site to the other; the first step, before any width moves, is exact."""
    for name, args in AMAQ.items():
        report, plan = case.run(name, args, steps=40)
        wire, measured = report["prediction"]["wire"], payloads(report)
        assert not wire["exact"] and not wire["at_most"] and 4 <= wire["mean_bits"] < 8, (name, wire)
        predicted = {site: wire["sites"][site]["payload_bytes"] for site in SITES}
        assert near(sum(predicted.values()), sum(measured.values()), 0.05), (name, predicted, measured)
        for site in SITES:
            assert near(predicted[site], measured[site], 0.2), (name, site, predicted, measured)
        assert near(predicted["bwd_in"], measured["bwd_in"]), (name, predicted, measured)  # the signal
        check_grade(report)
        plan["wire"]["round_trips"] = wire["round_trips"]
        assert same(plan["wire"], wire), name
        report, _ = case.run(f"{name}_first", args, steps=1)
        for site, bytes_ in payloads(report).items():
            assert report["prediction"]["wire"]["sites"][site]["payload_bytes"] == bytes_, (name, site)


def check_topologies(case):
    for name, args in VANILLA.items():
        report, plan = case.run(name, args)
        wire, measured = report["prediction"]["wire"], payloads(report)
        assert same(plan["wire"], wire) and plan["topology"] == "vanilla", (name, plan["wire"], wire)
        assert measured["fwd_out"] == measured["bwd_out"] == 0
        assert wire["exact"] == (name == "vanilla"), wire
        for site in SITES:
            assert near(wire["sites"][site]["payload_bytes"], measured[site], 0.05), (name, site)
        assert wire["round_trips"] == 1.0, wire
        if name == "vanilla":
            check_opening(report)


def check_exchange(case):
    """Parameters, token ids and gradients: to the byte, by site and on the wire."""
    for name, args in EXCHANGE.items():
        report, plan = case.run(name, args)
        wire, measured = report["prediction"]["wire"], payloads(report)
        assert wire["exact"] and wire["at_most"], (name, wire)
        assert wire["sites"].keys() == measured.keys(), (name, wire, measured)
        for site, bytes_ in measured.items():
            assert near(wire["sites"][site]["payload_bytes"], bytes_), (name, site, wire, bytes_)
        assert same(plan["client"], report["prediction"]["client"]), (name, plan)
        assert {"adapter", "moments", "modules"} <= plan["client"]["memory"].keys(), (name, plan)
        check_grade(report)
        check_opening(report)
        plan["wire"]["round_trips"] = wire["round_trips"]
        assert same(plan["wire"], wire), (name, plan["wire"], wire)
    # Parameters travel once in however many steps, also where not every step is laid out.
    of = [case.plan(*case.options(TEXT, steps))["wire"] for steps in (1, 256, 300, 5000)]
    once = of[0]["sites"]["lora_a"]["payload_bytes"]
    for steps, wire in zip((1, 256, 300, 5000), of):
        assert near(wire["sites"]["lora_a"]["payload_bytes"] * steps, once), (steps, wire)
        assert wire["exact"] == (steps <= 256), (steps, wire)
    for name, args in EXCHANGE_AMAQ.items():
        args = [*TEXT, "--codec", "amaq", *args]
        report, plan = case.run(name, args, steps=40)
        wire, measured = report["prediction"]["wire"], payloads(report)
        predicted = {site: s["payload_bytes"] for site, s in wire["sites"].items()}
        assert not wire["exact"] and not wire["at_most"] and 4 <= wire["mean_bits"] < 8, (name, wire)
        assert near(sum(predicted.values()), sum(measured.values()), 0.05), (name, predicted, measured)
        for site in predicted.keys() | measured.keys():
            assert near(predicted[site], measured[site], 0.2), (name, site, predicted, measured)
        for way in ("sent", "received"):
            ratio = report["prediction"]["grade"][f"bytes_{way}"]["ratio"]
            assert abs(ratio - 1) < 0.05, (name, way, ratio)
        assert same(plan["wire"], wire), (name, plan["wire"], wire)


def check_preset(case):
    """The paper's gates have no schedule: the mean goes by their rate, and its bits lie near."""
    for name, args in (("preset", []), ("preset_3", ["--target", 3]), ("preset_fast", ["--bits-lr", 0.1])):
        report, plan = case.run(name, ["--preset", "boolq@qwen2.5-7b", *args], steps=40)
        wire, measured = report["prediction"]["wire"], payloads(report)
        predicted = {site: wire["sites"][site]["payload_bytes"] for site in SITES}
        assert near(sum(predicted.values()), sum(measured.values()), 0.05), (name, predicted, measured)
        for way in ("sent", "received"):
            ratio = report["prediction"]["grade"][f"bytes_{way}"]["ratio"]
            assert abs(ratio - 1) < 0.05, (name, way, ratio)
        assert same(plan["wire"], wire), (name, plan["wire"], wire)
    # What a preset says of steps, rows and rank is in the plan as in a run.
    shape = ["plan", "--shape", "qwen2.5-7b", "--preset", "gsm8k@qwen2.5-7b"]
    plan = case.seam.json(*shape, server=False)
    assert plan["rank"] == 64 and plan["wire"]["steps"] == 5000 and plan["wire"]["tokens"] == 16 * 1023, plan
    plan = case.seam.json(*shape, "--steps", 7, "--batch", 2, "--rank", 8, "--tokens-max", 512, server=False)
    assert plan["rank"] == 8 and plan["wire"]["steps"] == 7 and plan["wire"]["tokens"] == 2 * 511, plan


def check_adapter(case):
    """--adapter says what travels: its rank and targets, or that it is a prefix."""
    code, out, err = case.seam.run("train", *case.options(["--targets", "q,k,v", "--codec", "bf16"], 2), "--out",
                                   case.folder / "start", "--quiet", "--delete-session")
    assert code == 0, out + err
    adapter = case.folder / "start" / "adapter"
    report, plan = case.run("from_adapter", [*TEXT, "--adapter", adapter])
    assert plan["rank"] == 4 and plan["targets"] == "q,k,v", plan
    wire = report["prediction"]["wire"]
    assert same(plan["wire"], wire), (plan["wire"], wire)
    for site, bytes_ in payloads(report).items():
        assert near(wire["sites"][site]["payload_bytes"], bytes_), (site, wire, bytes_)


def check_server_memory(case):
    """What the server reserves, by topology, within small arrays of its own."""
    info = case.seam.json("server", "info")
    dtype = "bf16" if "bf16" in info["device"] else "f32"
    wide = ["--rank", 64, "--targets", "q,k,v,o,gate,up,down"]
    for name, args in (("memory_vanilla", [*VANILLA["vanilla"], *wide]), ("memory_once", [*TEXT, *wide]),
                       ("memory_resend", [*TEXT, *wide, "--codec", "amaq", "--resend-parameters"])):
        options = [*case.options([*args, "--batch", 40], 2), "--pipeline-depth", 1]
        code, out, err = case.seam.run("train", *options, "--out", case.folder / name, "--quiet", "--name", name)
        assert code == 0, out + err
        reserved = next(s["memory_bytes"] for s in case.seam.json("session", "list")["sessions"]
                        if s["name"] == name)
        plan = case.plan(*options, "--dtype", dtype)
        total = plan["session_device_bytes"] + plan["session_host_bytes"]
        assert 0 <= reserved - total < 300_000, (name, total, reserved)  # of millions
    weights = [case.plan("--model", case.model, "--dtype", dtype, *args)["weight_bytes"] for args in ([], TEXT)]
    loaded = int(case.server.log.split("weight_bytes=")[1].split()[0])
    # With embedding and head; so small a model's matrices are padded by more than a tenth.
    assert weights[0] < 0.5 * loaded and abs(weights[1] - loaded) < 0.15 * loaded, (weights, loaded)


def check_same_refusal(case):
    """A plan refuses what the run is refused, in the same words."""
    labels, depth_2 = VANILLA["vanilla"], ["--rows-max", 40, "--batch", 9, "--pipeline-depth", 2]
    adapter = case.folder / "start" / "adapter"
    for args, text in (
            (["--topology", "vanilla"], "--consent: --topology vanilla"),
            (["--topology", "adapter_exchange", "--consent", "labels"], "--consent: --topology adapter_exchange"),
            (["--topology", "star"], "--topology: 'star'"), (["--consent", "all"], "--consent: 'all'"),
            (["--resend-parameters"], "config.resend_parameters"), ([*labels, "--resend-parameters"],
                                                                    "config.resend_parameters"),
            ([*labels, "--tail-blocks", 1], "config.tail_layers: 1, but with VANILLA"),
            ([*TEXT, "--front-blocks", 1], "config.front_layers: with ADAPTER_EXCHANGE"),
            ([*TEXT, "--tail-blocks", 1], "config.tail_layers: with ADAPTER_EXCHANGE"),
            ([*TEXT, "--full"], "--full: with topology"), ([*TEXT, "--target", 3], "--target: with --codec"),
            ([*TEXT, "--codec", "aqsgd"], "config.codec.codec: aqsgd goes by samples"),
            ([*TEXT, "--codec-fwd-in", "bf16"], "config.codec.codec_fwd_in: ADAPTER_EXCHANGE"),
            ([*TEXT, "--dictionary", "on"], "config.codec.codec_fwd_in: ADAPTER_EXCHANGE"),
            ([*TEXT, "--elide-input-gradient", "off"], "config.codec.send_input_gradient: ADAPTER_EXCHANGE"),
            ([*TEXT, "--codec", "amaq", "--gate-signal", "exact"], "config.codec.amaq.gate_signal: exact"),
            ([*TEXT, "--codec", "amaq", "--granularity", "token"], "config.codec.codec: amaq goes by samples"),
            ([*TEXT, "--codec", "group", "--group", 3], "config.codec.group: 3 does not divide 4"),
            ([*TEXT, "--all-layer-bits", 4], "config.all_layer_bits: not with topology ADAPTER_EXCHANGE"),
            ([*TEXT, "--prefix-tokens", 3, "--prefix-bits", 4], "--prefix-bits: with topology adapter_exchange"),
            (["--all-layer-bits", 9], "config.all_layer_bits: 9 is not between 1 and 8"),
            (["--all-layer-bits", 4, "--front-blocks", 1, "--tail-blocks", 1], "config.all_layer_bits: the server"),
            (["--prefix-tokens", 3, "--prefix-bits", 8], "config.prefix_bits: 8 is not between 1 and 8"),
            (["--preset", "gsm9k"], "--preset: 'gsm9k'"), (["--preset", "gsm8k@gpt"], "--preset: 'gsm8k@gpt'"),
            (["--pipeline-depth", "deep"], "--pipeline-depth: 'deep'"),
            ([*depth_2, "--gate-signal", "exact"], "config.limits.pipeline_depth: 2, but"),
            ([*depth_2, "--elide-input-gradient", "off"], "config.limits.pipeline_depth: 2, but"),
            (["--adapter", adapter, "--rank", 5], "--rank: is 5"), (["--adapter", case.folder / "none"], "--adapter"),
            (["--lora-side", "client"], "--lora-side: without"), (["--full", "--dropout", 0.1], "--full: --rank"),
            (["--full", "--fp8"], "--fp8: of frozen products")):
        options = case.options(args, 2)
        told = []
        for command in (["train", *options, "--out", case.folder / "refused", "--quiet"], ["plan", *options]):
            if command[0] == "plan" and "--dropout" in args:  # no byte depends on it
                at = command.index("--dropout")
                command[at:at + 2] = ["--rank", 4]
            code, out, err = case.seam.run(*command, server=command[0] == "train")
            assert code != 0 and text in err, (args, code, out, err)
            told.append((code, err.replace("seam train", "seam plan")))
        assert told[0] == told[1], told


def check_time(case):
    """Bytes over the rate, round trips, the server's tokens: each where it is said, and the sum."""
    link = ["--mbit", 2, "--rtt-ms", 30, "--server-tokens-per-s", 500]
    report, plan = case.run("time", ["--codec", "bf16"], link=link)
    wire, time = report["prediction"]["wire"], report["prediction"]["time"]
    assert near(time["sent_seconds"], wire["sent"]["bytes"] * 8 / 2e6), time
    assert near(time["received_seconds"], wire["received"]["bytes"] * 8 / 2e6), time
    assert wire["round_trips"] == 2 and near(time["rtt_seconds"], 0.06, 1e-6), (wire, time)
    assert near(time["server_seconds"], wire["tokens"] / 500), time
    parts = ["sent_seconds", "received_seconds", "rtt_seconds", "server_seconds"]
    assert near(time["seconds"], sum(time[p] for p in parts)) and time["covers"] == "link, server"
    assert same(plan["time"], time), (plan["time"], time)
    row = report["prediction"]["grade"]["seconds"]
    assert near(row["measured"], report["totals"]["seconds"] / 6) and near(row["predicted"], time["seconds"])
    assert "mbit" not in report["options"], report["options"]
    shape = ["plan", "--shape", "smollm2-135m"]
    assert "time" not in case.seam.json(*shape, server=False)
    alone = case.seam.json(*shape, "--server-tokens-per-s", 100, server=False)["time"]
    assert alone["covers"] == "server" and "mbit" not in alone and near(alone["seconds"], 20.48), alone
    text = case.seam.run(*shape, "--mbit", 100, server=False)[1]
    assert "its time " in text and "and at the server" in text, text


def check_full_rows(case):
    """Full micro-batches: WIRE.md by hand, of a model without a file."""
    shape = ["plan", "--shape", "llama3-8b", "--insecure"]
    hidden, rows = 4096, 2048
    wire = case.seam.json(*shape, "--codec", "bf16", server=False)["wire"]
    tensor = rows * hidden * 2
    chunks = tensor >> 20  # of 1 MiB: 128 rows
    assert wire["rows"] == "full" and wire["exact"] and wire["tokens"] == rows, wire
    assert wire["sent"]["tensors"] == 2 * tensor and wire["received"]["tensors"] == tensor, wire
    assert wire["sent"]["headers"] == 2 * chunks * HEADER, wire
    assert wire["received"]["headers"] == chunks * HEADER and wire["received"]["allocation"] == 0, wire
    wire = case.seam.json(*shape, "--codec", "affine", "--bits", 3, "--micros", 4, server=False)["wire"]
    tensor = 4 + 4 * hidden + rows * hidden * 3 // 8
    assert wire["sent"]["tensors"] == 4 * 2 * tensor and wire["micros"] == 4, wire
    assert wire["round_trips"] == 5, wire
    # Rows of 512 tokens have 511 each; four of them fit a micro-batch.
    plan = case.seam.json(*shape, "--codec", "bf16", "--batch", 6, "--tokens-max", 512, server=False)
    wire = plan["wire"]
    assert wire["tokens"] == 6 * 511 and wire["micros"] == 2 and plan["rows_max"] == rows, plan
    assert wire["sites"]["bwd_out"]["payload_bytes"] == 6 * 511 * hidden * 2, wire
    tls = case.seam.json("plan", "--shape", "llama3-8b", "--codec", "bf16", "--batch", 6, "--tokens-max",
                         512, server=False)["wire"]
    assert tls["sent"]["framing"] > wire["sent"]["framing"] and tls["sites"] == wire["sites"]
    text = case.seam.run(*shape, server=False)[1]
    assert "a step sends " in text and "it receives " in text and "mean of" in text, text


def write_adapter(folder, **config):
    """As far as a plan reads it."""
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def check_bad_options(case):
    shape, model = ["--shape", "llama3-8b"], ["--model", case.model]
    lora = write_adapter(case.folder / "lora", peft_type="LORA", r=1000, lora_alpha=16, target_modules=["q_proj"])
    wrapped = write_adapter(case.folder / "wrapped", r=2**32 + 1, lora_alpha=16, target_modules=["q_proj"])
    prefix = write_adapter(case.folder / "prefix", peft_type="PREFIX_TUNING", num_virtual_tokens=100_000)
    for args, text in (([*shape, "--rtt-ms", 5], "--rtt-ms"), ([*shape, "--batch", 4], "--batch"),
                       ([*shape, "--data", case.rows], "--data"), ([*shape, "--mbit", 0], "--mbit"),
                       ([*shape, "--micros", 2, "--tokens-max", 64], "--micros"),
                       ([*shape, "--sequences-max", 2, "--tokens-max", 64], "--sequences-max"),
                       ([*shape, "--preset", "gsm8k", "--micros", 2], "--micros"),
                       ([*shape, "--pipeline-depth", 9], "--pipeline-depth: '9'"),
                       ([*shape, "--memory", 1e30], "--memory: 1e+30 is more than 1e+09"),
                       ([*shape, "--device", "cpuzzz"], "--device: 'cpuzzz'"),
                       ([*shape, "--device", "cudax"], "--device: 'cudax'"),
                       ([*shape, "--device", "cuda:"], "--device: 'cuda:'"),
                       ([*shape, "--rows-max", 8, "--sequences-max", 9], "--sequences-max: 9, but"),
                       ([*shape, "--rank", 257], "--rank: 257 is not in 1..256"),
                       ([*shape, "--adapter", lora], "--rank: "),
                       ([*shape, "--adapter", wrapped], "r, lora_alpha or target_modules"),
                       ([*shape, "--adapter", prefix], "--prefix-tokens: "),
                       ([*shape, *model], "not both"),
                       ([*shape, "--micros", 65], "--micros"), ([*shape, "--truncate"], "--truncate"),
                       ([*shape, "--train-rows", 3], "--train-rows"),
                       ([*shape, "--tokens-max", 4096], "--tokens-max"),
                       ([*shape, "--tokens-max", 1], "--tokens-max"),
                       ([*shape, "--tokens-max", 1000, "--batch", 4294967295], "--batch"),
                       ([*shape, "--bits", 4], "--bits"), ([*shape, "--codec-fwd-in", "zip"], "codec-fwd-in"),
                       ([*shape, "--codec", "affine", "--target", 3], "--target"),
                       ([*model, "--data", case.folder / "none"], "--data"),
                       ([*model, "--data", case.rows, "--rows-max", 8], "--rows-max")):
        code, out, err = case.seam.run("plan", *args, server=False)
        assert code != 0 and text in err, (args, code, out, err)


def main():
    seamd, seam = seamd_path(), sys.argv[2]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_text_model(folder / "model", layers=3)
        with Seamd(seamd, folder / "model", "--allow-text") as server:
            case = Case(folder, Seam(seam, server.address))
            case.server = server
            for check in [check_exact, check_most, check_amaq, check_topologies, check_exchange, check_preset,
                          check_adapter, check_server_memory, check_same_refusal, check_time, check_full_rows,
                          check_bad_options]:
                run_check(check, case)


if __name__ == "__main__":
    main()
