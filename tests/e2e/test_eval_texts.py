#!/usr/bin/env python3
"""Generated texts of `seam eval`: samples for HumanEval's evaluator, and sampling.

Goals: one line a sample in the official form, as many as asked for, in the rows' order; the same seed
gives the same file, whatever else is in flight, another seed another; temperature 0 gives what exact
match generates; what cannot be is refused.  On a tiny random model, whose texts mean nothing.

    test_eval_texts.py SEAMD SEAM
"""
import json
import pathlib
import sys
import tempfile

from cli_fixture import Seam, write_rows, write_text_model
from service_fixture import Seamd, seamd_path

EXIT_USAGE, EXIT_IO = 2, 5
ROWS = [{"task_id": f"HumanEval/{i}", "prompt": f"def f{i}(x):\n    \"\"\" {'long ' * i}\"\"\"\n",
         "entry_point": f"f{i}", "canonical_solution": "    return x\n", "test": "def check(f): pass\n"}
        for i in range(3)]


def function_end(text):
    ends = [text.find(end) for end in ("\nclass", "\ndef", "\n#", "\nif", "\nprint")]
    return text[:min([e for e in ends if e >= 0], default=len(text))]


class Case:
    def __init__(self, seam, folder):
        self.seam, self.folder = seam, folder
        self.model = folder / "model"
        self.data = write_rows(folder / "humaneval.jsonl", ROWS)

    def args(self, *more):
        return ["eval", "--model", self.model, "--data", self.data, "--codec", "f32", "--f32",
                "--new-tokens", 12, *more]

    def samples(self, *more):
        path = self.folder / "samples.jsonl"
        result = self.seam.json(*self.args("--samples-out", path, *more))
        return result, path.read_text()


def test_samples(case):
    result, text = case.samples("--samples", 3, "--seed", 5)
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["task_id"] for line in lines] == [r["task_id"] for r in ROWS for _ in range(3)]
    assert all(set(line) == {"task_id", "completion"} for line in lines)
    assert all(line["completion"] == function_end(line["completion"]) for line in lines)
    assert result["samples"] == 9 and result["seed"] == 5 and result["exact_match"] is None
    assert abs(result["temperature"] - 0.2) < 1e-6 and abs(result["top_p"] - 0.9) < 1e-6
    assert result["loss"] > 0  # of the canonical solutions
    for more in ((), ("--slots", 1)):  # how many are in flight changes nothing
        assert case.samples("--samples", 3, "--seed", 5, *more)[1] == text, more
    assert case.samples("--samples", 3, "--seed", 6, "--temperature", 2)[1] != text


def test_greedy(case):
    _, text = case.samples("--temperature", 0)
    matched = case.seam.json(*case.args("--examples", len(ROWS)))
    assert matched["exact_rows"] == 0 and "temperature" not in matched
    for line, example in zip(text.splitlines(), matched["examples"], strict=True):
        assert json.loads(line)["completion"] == function_end(example["generated"])


def test_no_prompt(case):
    """Rows whose prompt is empty have a loss, and are left out of the texts with a count."""
    rows = [{"prompt": "", "completion": "xy"}, {"prompt": "a ->", "completion": " b"},
            {"prompt": "", "completion": "z"}]
    data = write_rows(case.folder / "promptless.jsonl", rows)
    args = ["eval", "--model", case.model, "--data", data, "--codec", "f32", "--f32", "--new-tokens", 4]
    result = case.seam.json(*args, "--examples", 3)
    assert result["rows"] == 3 and result["promptless_rows"] == 2, result
    assert [e["prompt"] for e in result["examples"]] == ["a ->"], result
    assert result["exact_match"] in (0, 1)
    code, out, err = case.seam.run(*args)
    assert code == 0 and "2 rows without a prompt have no generated text" in out, (out, err)
    write_rows(data, rows[:1])
    result = case.seam.json(*args)
    assert result["exact_match"] is None and result["promptless_rows"] == 1, result


def test_refusals(case):
    for more, word in ((["--samples", 2], "--samples-out"), (["--temperature", -1], "--temperature"),
                       (["--top-p", 0], "--top-p"), (["--top-p", 1.5], "--top-p")):
        code, _, err = case.seam.run(*case.args(*more))
        assert code == EXIT_USAGE and word in err, (more, code, err)
    rows = write_rows(case.folder / "plain.jsonl", [ROWS[0], {"prompt": "a", "completion": "b"}])
    code, _, err = case.seam.run("eval", "--model", case.model, "--data", rows, "--samples-out",
                                 case.folder / "none.jsonl")
    assert code != 0 and "line 2" in err and "task_id" in err, err
    assert not (case.folder / "none.jsonl").exists()
    code, _, err = case.seam.run("eval", "--model", case.model, "--data", case.data, "--samples-out",
                                 case.folder / "none" / "x.jsonl")
    assert code == EXIT_IO and "--samples-out: " in err, "said before texts are generated: " + err


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_text_model(folder / "model")
        with Seamd(seamd_path(), folder / "model") as server:
            case = Case(Seam(sys.argv[2], server.address), folder)
            for test in (test_samples, test_greedy, test_no_prompt, test_refusals):
                test(case)
                print(f"{test.__name__}: ok", flush=True)


if __name__ == "__main__":
    main()
