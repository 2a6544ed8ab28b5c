#!/usr/bin/env python3
"""Accuracy of rows with choices against NumPy, on a tiny random model.

Goals: every choice's score is the sum of its tokens' log probabilities after the prompt, by a model
in float64 that scores each choice by itself; picks, accuracies and the loss follow; how rows share
requests changes nothing; train, eval, report and bench table say the same; bad rows are refused.

    test_choices.py SEAMD SEAM QUERY_TOKENS
"""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

from cli_fixture import Seam, write_rows, write_text_model
from service_fixture import DEADLINE_S, Seamd, np, save_file, seamd_path
from safetensors.numpy import load_file  # after service_fixture, which skips without it

END, BYTES = 2, 3  # token ids of cli_fixture: the end, the first byte
EXIT_INPUT = 4


class Llama:
    """The decoder in float64, one sequence at a time."""

    def __init__(self, folder):
        self.config = json.loads((folder / "config.json").read_text())
        self.weights = {k: v.astype(np.float64)
                        for k, v in load_file(str(folder / "model.safetensors")).items()}

    def norm(self, x, name):
        scale = np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + self.config["rms_norm_eps"])
        return x / scale * self.weights[name + ".weight"]

    def project(self, x, name):
        return x @ self.weights[name + ".weight"].T

    def attention(self, x, at):
        heads, kv = self.config["num_attention_heads"], self.config["num_key_value_heads"]
        d, count = self.config["head_dim"], len(x)
        angles = np.outer(np.arange(count), self.config["rope_theta"] ** (-np.arange(0, d, 2) / d))
        cos, sin = (np.tile(f(angles), 2)[:, None] for f in (np.cos, np.sin))

        def turned(name, n):
            v = self.project(x, at + name).reshape(count, n, d)
            half = np.concatenate([-v[..., d // 2:], v[..., :d // 2]], axis=-1)
            return v * cos + half * sin

        q = turned("q_proj", heads)
        k = np.repeat(turned("k_proj", kv), heads // kv, axis=1)
        v = np.repeat(self.project(x, at + "v_proj").reshape(count, kv, d), heads // kv, axis=1)
        logits = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(d)
        logits[:, np.triu_indices(count, 1)[0], np.triu_indices(count, 1)[1]] = -np.inf
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        return self.project(np.einsum("hqk,khd->qhd", weights, v).reshape(count, -1), at + "o_proj")

    def log_probabilities(self, ids):
        x = self.weights["model.embed_tokens.weight"][ids]
        for layer in range(self.config["num_hidden_layers"]):
            at = f"model.layers.{layer}."
            x = x + self.attention(self.norm(x, at + "input_layernorm"), at + "self_attn.")
            h = self.norm(x, at + "post_attention_layernorm")
            gate = self.project(h, at + "mlp.gate_proj")
            x = x + self.project(gate / (1 + np.exp(-gate)) * self.project(h, at + "mlp.up_proj"),
                                 at + "mlp.down_proj")
        logits = self.norm(x, "model.norm") @ self.weights["model.embed_tokens.weight"].T
        logits -= logits.max(axis=-1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))

    def score(self, prompt, text, end=False):
        """Sum of the log probabilities of the text's tokens, and how many they are."""
        before = [BYTES + b for b in prompt.encode()]
        after = [BYTES + b for b in text.encode()] + [END] * end
        rows = self.log_probabilities(before + after[:-1])[len(before) - 1:]
        return sum(row[token] for row, token in zip(rows, after)), len(after)


def choice_rows():
    letters = ["A", "B", "C", "D", "E"]  # one token without the space that others have
    rows = []
    for i in range(8):
        choices = letters[: 3 + i % 3]
        rows.append({"prompt": f"question {i}:", "choices": choices, "label": i % len(choices)})
    for i, choices in enumerate([[" no", " yes"], [" yes", " no", " non", " nobody", " y"],
                                 [" same", " same", " same one"], [" é", " e", " ée"],
                                 ["z", "zz", "zzz", "q"], [" longer text that goes on", " x"]]):
        for label in range(len(choices)):
            rows.append({"prompt": f"text {i} of {label} ->", "choices": choices, "label": label})
    return [row | {"completion": row["choices"][row["label"]]} for row in rows]


def expected_of(model, rows):
    scores = [[model.score(row["prompt"], c)[0] for c in row["choices"]] for row in rows]
    lengths = [[len(c.removeprefix(" ").encode()) for c in row["choices"]] for row in rows]
    picks = [int(np.argmax(s)) for s in scores]
    norms = [int(np.argmax(np.array(s) / n)) for s, n in zip(scores, lengths)]
    loss = [model.score(row["prompt"], row["completion"], end=True) for row in rows]
    labels = [row["label"] for row in rows]
    return {"scores": scores, "picks": picks, "norms": norms,
            "accuracy": np.mean([p == r for p, r in zip(picks, labels)]),
            "accuracy_norm": np.mean([p == r for p, r in zip(norms, labels)]),
            "loss": -sum(s for s, _ in loss) / sum(n for _, n in loss),
            "tokens": sum(n for _, n in loss)}


class Case:
    def __init__(self, folder, seam, query_tokens):
        self.folder, self.seam, self.query_tokens = folder, seam, query_tokens
        self.model = folder / "model"
        self.rows = choice_rows()
        self.data = write_rows(folder / "choices.jsonl", self.rows)
        self.expected = expected_of(Llama(self.model), self.rows)

    def eval(self, data, *args):
        return self.seam.json("eval", "--model", self.model, "--data", data, "--codec", "f32",
                              "--f32", "--exact-match", "off", "--examples", 1000, *args)


def near(a, b):
    return abs(a - b) < 1e-9  # files hold ten digits


def agrees(case, result):
    expected = case.expected
    assert result["rows"] == result["choice_rows"] == len(case.rows)
    assert result["labelled_tokens"] == expected["tokens"]
    assert abs(result["loss"] - expected["loss"]) < 1e-5, (result["loss"], expected["loss"])
    assert len(result["choice_scores"]) == len(case.rows)
    for i, got in enumerate(result["choice_scores"]):
        assert got["line"] == i + 1 and got["label"] == case.rows[i]["label"]
        assert np.allclose(got["scores"], expected["scores"][i], rtol=1e-5, atol=1e-5), (i, got)
        assert got["picked"] == expected["picks"][i], (case.rows[i], got)
        assert got["picked_norm"] == expected["norms"][i], (case.rows[i], got)
    assert abs(result["accuracy"] - expected["accuracy"]) < 1e-12
    assert abs(result["accuracy_norm"] - expected["accuracy_norm"]) < 1e-12


def check_against_numpy(case):
    # The rows tell the two accuracies apart, and both from always and never.
    assert 0 < case.expected["accuracy"] < 1 and 0 < case.expected["accuracy_norm"] < 1
    assert case.expected["picks"] != case.expected["norms"]
    agrees(case, case.eval(case.data))


def check_small_requests(case):
    """Rows whose sequences go into several requests."""
    longest = max(len((r["prompt"] + c).encode()) for r in case.rows for c in r["choices"])
    agrees(case, case.eval(case.data, "--rows-max", longest))
    code, _, err = case.seam.run("eval", "--model", case.model, "--data", case.data,
                                 "--rows-max", 20)
    assert code == EXIT_INPUT and "tokens; a request of --rows-max 20 holds rows of 21" in err, (code, err)


def check_quantized_request(case):
    """bf16 on the wire is near; the codec of the answer is told."""
    result = case.seam.json("eval", "--model", case.model, "--data", case.data, "--f32",
                            "--exact-match", "off", "--examples", 1000)
    assert result["codec"] == "bf16"
    for got, scores in zip(result["choice_scores"], case.expected["scores"]):
        assert np.allclose(got["scores"], scores, rtol=0.02, atol=0.02), (got, scores)


def check_mixed_rows(case):
    """Rows without choices count in the loss and in no accuracy."""
    plain = [{"prompt": f"lamp {i} ->", "completion": " red"} for i in range(5)]
    mixed = write_rows(case.folder / "mixed.jsonl", plain[:2] + case.rows[:9] + plain[2:])
    result = case.eval(mixed)
    labels = [r["label"] for r in case.rows[:9]]
    right = sum(p == r for p, r in zip(case.expected["picks"], labels))
    assert (result["rows"], result["choice_rows"]) == (14, 9)
    assert result["accuracy"] == right / 9
    alone = [case.eval(write_rows(case.folder / "part.jsonl", rows))
             for rows in (plain, case.rows[:9])]
    tokens = [r["labelled_tokens"] for r in alone]
    loss = sum(r["loss"] * n for r, n in zip(alone, tokens)) / sum(tokens)
    assert abs(result["loss"] - loss) < 1e-6 and result["labelled_tokens"] == sum(tokens)
    assert alone[0]["accuracy"] is None and alone[0]["accuracy_norm"] is None
    assert "choice_rows" not in alone[0]


def check_texts(case):
    code, out, err = case.seam.run("eval", "--model", case.model, "--data", case.data, "--codec",
                                   "f32", "--f32", "--exact-match", "off", "--examples", 2)
    assert code == 0, err
    share = f"accuracy {100 * case.expected['accuracy']:.1f} %, by length "
    assert share in out and f"({len(case.rows)} rows with choices)" in out, out
    assert out.count("log probabilities") == 2
    assert f"line 1: picked {case.expected['picks'][0]}, right 0;" in out, out
    code, out, _ = case.seam.run("eval", "--help", server=False)
    assert code == 0 and '"choices"' in out and "accuracy" in out


def check_train_and_bench(case):
    common = ["--model", case.model, "--data", case.data, "--eval-data", case.data, "--steps", 4,
              "--batch", 4, "--rank", 4, "--exact-match", "off"]
    code, out, err = case.seam.run("train", *common, "--out", case.folder / "run", "--f32")
    assert code == 0, out + err
    assert "accuracy" in out and "by length" in out and ", accuracy " in err, out + err
    report = json.loads((case.folder / "run" / "report.json").read_text())
    for name in ("before", "after", "after_quantized"):
        result = report["eval"][name]
        picked = [r["picked"] == r["label"] for r in result["choice_scores"]]
        assert 0 <= result["accuracy"] <= 1 and 0 <= result["accuracy_norm"] <= 1
        assert result["choice_rows"] == len(case.rows) and len(picked) > 0
    page = (case.folder / "run" / "report.html").read_text()
    assert "<th>accuracy</th>" in page and "accuracy, before and after" in page
    again = case.seam.json("eval", "--model", case.model, "--data", case.data, "--f32",
                           "--exact-match", "off", "--run", case.folder / "run")
    after = report["eval"]["after"]
    for figure in ("accuracy", "accuracy_norm"):
        assert near(again[figure], after[figure])
    document = case.seam.json("bench", "codecs", *common, "--out", case.folder / "bench",
                              "--codecs", "affine", "--bits", "4", "--seeds", "1")
    [row] = document["rows"]
    report = json.loads((case.folder / "bench" / row["runs"][0]["folder"] /
                         "report.json").read_text())
    for figure, name in (("accuracy", "after"), ("accuracy_through", "after_quantized")):
        assert near(row["figures"][figure]["mean"], report["eval"][name]["accuracy"])
    assert "accuracy %, through" in (case.folder / "bench" / "bench.md").read_text()


def check_bad_rows(case):
    bad = write_rows(case.folder / "bad.jsonl", [case.rows[0], case.rows[1] | {"label": 9}])
    code, _, err = case.seam.run("eval", "--model", case.model, "--data", bad)
    assert code == EXIT_INPUT and "bad.jsonl:2" in err and "field label is 9" in err, (code, err)


def check_not_finite(case):
    """The client's final norm is spoiled: the blocks' output is fine, no score is."""
    spoiled = case.folder / "spoiled"
    shutil.copytree(case.model, spoiled)
    tensors = load_file(str(spoiled / "model.safetensors"))
    tensors["model.norm.weight"][0] = np.nan
    save_file(tensors, str(spoiled / "model.safetensors"))
    code, _, err = case.seam.run("eval", "--model", spoiled, "--data", case.data)
    assert code == EXIT_INPUT, (code, err)
    assert "line 1: the score of choices[0] is not finite" in err, err


def check_query_tokens(case):
    wide = case.folder / "wide"
    write_text_model(wide, hidden=96)
    done = subprocess.run([case.query_tokens, case.seam.server, case.model, "tiny", wide],
                          capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr


def main():
    binary, seam_path, query_tokens = seamd_path(), sys.argv[2], sys.argv[3]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_text_model(folder / "model")
        # Fewer rows than `seam eval` asks for where it is not told: it takes what the server has.
        with Seamd(binary, folder / "model", "--sessions-max", "64", "--rows-max",
                   "2048") as server:
            case = Case(folder, Seam(seam_path, server.address), query_tokens)
            for check in [check_against_numpy, check_small_requests, check_quantized_request,
                          check_mixed_rows, check_texts, check_train_and_bench, check_bad_rows,
                          check_not_finite, check_query_tokens]:
                check(case)
                print(f"{check.__name__}: passed", flush=True)


if __name__ == "__main__":
    main()
