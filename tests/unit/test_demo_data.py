"""Goal: the demo's figures mean what they say.  Method: check the committed rows against the rules.

No evaluation prompt is in the training set (nor one that differs in capitals or a full stop only);
a quarter of the evaluation rows use sentence patterns of which no training row is an instance; the
evaluation asks only for devices, rooms and actions that training shows; the committed files are
what make_data.py writes; completions are compact JSON objects.
"""
import importlib.util
import json
import pathlib
import re
import sys
import tempfile

DEMO = pathlib.Path(__file__).parents[2] / "deploy" / "demo"


def load_generator():
    spec = importlib.util.spec_from_file_location("make_data", DEMO / "make_data.py")
    module = importlib.util.module_from_spec(spec)
    sys.dont_write_bytecode = True
    spec.loader.exec_module(module)
    return module


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def normal(prompt):
    return re.sub(r"[^a-z0-9 ]", "", prompt.lower().replace("\n", " "))


def pattern_of(said, device):
    """A sentence pattern as a regular expression over normalized requests."""
    text = normal(said.replace("{r}", "ROOMHERE").replace("{n}", "VALUEHERE").replace("{d}", device))
    return re.compile(re.escape(text).replace("roomhere", "[a-z ]+").replace("valuehere", "[0-9]+"))


def main():
    generator = load_generator()
    train, evaluation = read(DEMO / "train.jsonl"), read(DEMO / "eval.jsonl")
    assert len(train) == generator.TRAIN_ROWS and len(train) >= 300
    assert len(evaluation) == 80

    with tempfile.TemporaryDirectory() as folder:
        sys.argv = ["make_data.py", folder]
        generator.main()
        for name in ("train.jsonl", "eval.jsonl"):
            fresh = (pathlib.Path(folder) / name).read_bytes()
            assert fresh == (DEMO / name).read_bytes(), f"{name} is not what make_data.py writes"

    trained = {normal(row["prompt"]) for row in train}
    assert len(trained) == len(train), "training repeats a prompt"
    for row in evaluation:
        assert normal(row["prompt"]) not in trained, f"also in training: {row['prompt']}"

    unseen = [row for row in evaluation if row["group"] == "unseen phrasing"]
    assert len(unseen) * 4 == len(evaluation), f"{len(unseen)} of {len(evaluation)} unseen"
    assert all(row["group"] == "seen phrasing" for row in train)
    hidden = [pattern_of(said, kind[0]) for kind in generator.KINDS for said in kind[4]]
    shown = [pattern_of(said, kind[0]) for kind in generator.KINDS for said in kind[3]]
    for row in train:
        request = normal(row["prompt"])[len("request "):-len(" command")]
        assert not any(p.fullmatch(request) for p in hidden), f"hidden pattern: {row['prompt']}"
    for row in unseen:
        request = normal(row["prompt"])[len("request "):-len(" command")]
        assert any(p.fullmatch(request) for p in hidden), f"not a hidden pattern: {row['prompt']}"
        assert not any(p.fullmatch(request) for p in shown), f"a shown pattern: {row['prompt']}"

    commands = [json.loads(row["completion"]) for row in train]
    known = {(c["device"], c["action"]) for c in commands}, {c["room"] for c in commands}
    for row in train + evaluation:
        command = json.loads(row["completion"])
        assert row["completion"] == " " + json.dumps(command, separators=(",", ":"))
        assert (command["device"], command["action"]) in known[0] and command["room"] in known[1]
    print(f"demo data: {len(train)} training rows, {len(evaluation)} evaluation rows, "
          f"{len(unseen)} of them in unseen phrasings")


main()
