"""ARCHITECTURE.md can be followed: reading_order.py [ROOT].

Every file that it names in backquotes exists (a bare name: somewhere in the tree), and every function
or type (a name with an underscore) in code outside tests/; every function
that a row of the reading order names stands in a file of that row; and on the way in, the opening
comment of a file of one of the two rows before names the row's first file.
"""
import pathlib
import re
import subprocess
import sys

WAY_IN_ROWS = 14  # rows after these are the way back, which comments do not name
FILE = re.compile(r"[\w./*-]+\.(?:c|h|py|sh|md|proto|json)$")


def opening_comment(text: str) -> str:
    return text[:text.find("*/")]


def main() -> int:
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1])
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"],
                            cwd=root, check=True, capture_output=True, text=True).stdout.split("\n")
    errors, rows = [], {}

    def found(name: str, folder: str = "") -> list:
        near = [path for path in listed if path == f"{folder}/{name}"]
        return near or [path for path in listed if path == name or path.endswith("/" + name)]

    words = set()  # of the code itself: a comment may be as old as the text
    for path in listed:
        if re.search(r"\.(c|h|cu|cuh|proto)$", path) and not path.startswith("tests/") \
                and (root / path).exists():
            code = (root / path).read_text(encoding="utf-8")
            words.update(re.findall(r"\w+", re.sub(r"/\*.*?\*/|//[^\n]*", "", code, flags=re.S)))

    text = (root / "ARCHITECTURE.md").read_text(encoding="utf-8")
    for number, line in enumerate(text.split("\n"), start=1):
        names = re.findall(r"`([^`]+)`", line)
        for name in names:
            made = "*" in name or name in ("report.json", "tokenizer.json")  # a pattern, a product
            if FILE.fullmatch(name) and not made and not found(name):
                errors.append(f"ARCHITECTURE.md:{number}: there is no {name}")
            if re.fullmatch(r"[a-z]\w*_\w+", name) and name not in words:
                errors.append(f"ARCHITECTURE.md:{number}: no code has {name}")
        row = re.match(r"\| (\d+) \| ([^|]+) \|", line)
        if row:
            rows[int(row[1])] = re.findall(r"`([^`]+)`", row[2])
    if sorted(rows) != list(range(1, len(rows) + 1)) or len(rows) <= WAY_IN_ROWS:
        errors.append(f"the reading order has rows {sorted(rows)}")

    comments = {0: ""}
    for number, names in sorted(rows.items()):
        folder, sources = "", []
        for name in names:
            if FILE.fullmatch(name):
                files = found(name, folder)
                folder = str(pathlib.PurePath(files[0]).parent) if files else folder
                sources += [(root / path).read_text(encoding="utf-8") for path in files[:1]]
            elif not any(re.search(rf"\b{re.escape(name)}\(", source) for source in sources):
                errors.append(f"row {number}: no file of it has {name}")
        comments[number] = " ".join(map(opening_comment, sources))
        before = comments[number - 1] + comments.get(number - 2, "")
        first = pathlib.PurePath(names[0]).name
        if 1 < number <= WAY_IN_ROWS and first not in before:
            errors.append(f"row {number}: no opening comment of the two rows before names {first}")
    print("\n".join(errors + [f"reading order: {len(rows)} rows, {len(errors)} errors"]))
    return 1 if errors else 0


sys.exit(main())
