"""Make the demo's data: spoken home-automation requests and the JSON command each one means.

    python3 deploy/demo/make_data.py [FOLDER]      writes train.jsonl and eval.jsonl

The same bytes every time (own generator, no library's).  Rows have prompt, completion and group.
Rules, checked by tests/unit/test_demo_data.py: no evaluation prompt is in the training set; a
quarter of the evaluation rows use phrasings (sentence patterns) that training never shows, group
"unseen phrasing", so that reports score them apart; every room, device, action and range of values of the evaluation occurs in training.
"""
import json
import pathlib
import sys

TRAIN_ROWS = 480
EVAL_SEEN_ROWS = 60
EVAL_UNSEEN_ROWS = 20

ROOMS = ["kitchen", "bedroom", "bathroom", "living room", "hallway", "office", "garage", "nursery"]

# (device as said, device in the command, action, value in the command,
#  patterns that training shows, patterns that only the evaluation shows).
# {r} is a room, {n} a value; (a, b, step) is the range of values.
ON_OFF = ["light", "fan", "heater", "radio", "tv"]
KINDS = []
for device in ON_OFF:
    KINDS.append((device, "on", None, [
        "turn on the {r} {d}", "switch the {d} in the {r} on", "could you turn the {r} {d} on please",
        "please switch on the {d} in the {r}", "I want the {r} {d} on",
        "don't turn off the {r} {d}, turn it on", "hey, {r} {d} on",
        "can you put the {d} on in the {r}",
    ], [
        "would you mind turning on the {d} for me in the {r}",
        "we need the {d} on over in the {r} now",
        "start the {d}, the one in the {r}",
    ]))
    KINDS.append((device, "off", None, [
        "turn off the {r} {d}", "switch the {d} in the {r} off",
        "could you turn the {r} {d} off please", "please switch off the {d} in the {r}",
        "nobody is in the {r}, turn the {d} off", "I don't need the {r} {d} any more",
        "leave the other rooms alone and turn off the {d} in the {r}", "hey, {r} {d} off",
    ], [
        "would you mind turning off the {d} for me in the {r}",
        "that {d} in the {r} can go off now",
        "make sure the {d} is off, I mean the one in the {r}",
    ]))
KINDS.append(("light", "set", (10, 90, 5), [
    "dim the {r} light to {n} percent", "set the {r} light to {n} percent",
    "please set the light in the {r} to {n} percent", "{r} light at {n} percent",
    "don't switch the {r} light off, just dim it to {n} percent",
    "could you bring the {r} light to {n} percent",
], [
    "I would like {n} percent on the light in the {r} please",
    "make it {n} percent for the {r} light",
]))
KINDS.append(("heater", "set", (16, 26, 1), [
    "set the {r} heater to {n} degrees", "heat the {r} to {n} degrees",
    "please make it {n} degrees in the {r}", "it is cold in the {r}, set the heater to {n} degrees",
    "could you warm the {r} to {n} degrees", "I want {n} degrees in the {r}",
], [
    "get the {r} to {n} degrees before we come home",
    "{n} degrees for the {r} would be nice",
]))
KINDS.append(("fan", "set", (1, 5, 1), [
    "set the {r} fan to speed {n}", "{r} fan speed {n} please",
    "put the fan in the {r} on level {n}", "could you set the fan in the {r} to level {n}",
    "it is hot in the {r}, set the fan to speed {n}",
], [
    "I would like level {n} on the {r} fan",
    "change the fan in the {r}, speed {n} is enough",
]))
KINDS.append(("radio", "set", (5, 60, 5), [
    "set the {r} radio to volume {n}", "radio in the {r} at volume {n} please",
    "the {r} radio is too loud, set it to volume {n}",
    "could you put the {r} radio to volume {n}", "volume {n} for the radio in the {r}",
], [
    "I can't hear the {r} radio, make it volume {n}",
    "bring the radio over in the {r} to volume {n}",
]))
KINDS.append(("blind", "open", None, [
    "open the {r} blind", "please open the blind in the {r}", "could you raise the {r} blind",
    "let some light into the {r}, open the blind", "blind in the {r} up please",
], [
    "would you mind opening the blind for me in the {r}",
    "the blind in the {r} should be open by now",
]))
KINDS.append(("blind", "close", None, [
    "close the {r} blind", "please close the blind in the {r}", "could you lower the {r} blind",
    "the sun is in my eyes in the {r}, close the blind", "blind in the {r} down please",
], [
    "would you mind closing the blind for me in the {r}",
    "it is dark outside, so the blind in the {r} should be closed",
]))
KINDS.append(("door", "lock", None, [
    "lock the {r} door", "please lock the door to the {r}", "is the {r} door locked? if not, lock it",
    "could you lock the {r} door for the night", "I am leaving, lock the door of the {r}",
], [
    "would you mind locking the {r} door behind me",
    "make sure that the door of the {r} is locked",
]))
KINDS.append(("door", "unlock", None, [
    "unlock the {r} door", "please unlock the door to the {r}", "could you unlock the {r} door for me",
    "don't lock the {r} door, unlock it", "I am back, unlock the door of the {r}",
], [
    "would you mind unlocking the {r} door for our guest",
    "someone is waiting at the {r} door, unlock it for them",
]))


class Random:
    """SplitMix64 (Steele, Lea, Flood 2014): the same numbers in every version of Python."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def below(self, limit: int) -> int:
        self.state = (self.state + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        return (z ^ (z >> 31)) % limit

    def choice(self, items):
        return items[self.below(len(items))]


def make_row(random: Random, unseen: bool, index: int) -> dict:
    device, action, values, shown, hidden = KINDS[index % len(KINDS)]
    room = random.choice(ROOMS)
    pattern = random.choice(hidden if unseen else shown)
    command = {"device": device, "room": room, "action": action}
    said = {"r": room, "d": device}
    if values:
        low, high, step = values
        command["value"] = said["n"] = low + step * random.below((high - low) // step + 1)
    text = pattern.format(**said)
    style = random.below(4)  # as a speech recognizer writes: capitals and a full stop, or neither
    if style == 0:
        text = text[0].upper() + text[1:] + ("?" if text.startswith(("could", "can", "would")) else ".")
    return {
        "prompt": f"Request: {text}\nCommand:",
        "completion": " " + json.dumps(command, separators=(",", ":")),
        "group": "unseen phrasing" if unseen else "seen phrasing",
    }


def make_rows(random: Random, count: int, unseen: bool, taken: set) -> list:
    rows = []
    while len(rows) < count:
        row = make_row(random, unseen, len(rows))
        key = row["prompt"].lower().replace(".", "").replace("?", "")  # a full stop is no difference
        if key not in taken:
            taken.add(key)
            rows.append(row)
    return rows


def shuffled(random: Random, rows: list) -> list:
    for i in range(len(rows) - 1, 0, -1):
        j = random.below(i + 1)
        rows[i], rows[j] = rows[j], rows[i]
    return rows


def main() -> None:
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent)
    random = Random(20240601)
    taken: set = set()
    evaluation = make_rows(random, EVAL_SEEN_ROWS, False, taken)
    evaluation += make_rows(random, EVAL_UNSEEN_ROWS, True, taken)
    train = make_rows(random, TRAIN_ROWS, False, taken)
    for name, rows in (("train", train), ("eval", evaluation)):
        text = "".join(json.dumps(row) + "\n" for row in shuffled(random, rows))
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
