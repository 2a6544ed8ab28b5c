"""Textual rules of the tree that no compiler checks: tidy.py [ROOT].

File length (<= 600 lines), function length (<= 70 lines from the brace to the brace), 100 columns,
an opening comment in every C file, banned functions, allocation only through arena.c, no process
exit outside main.c, no TODO without an issue number, no tabs or trailing blanks, no paths of the
machine it was written on.  Formatting is clang-format's job (format.sh), meaning clang-tidy's.
"""
import pathlib
import re
import subprocess
import sys

LINES_MAX = 600
FUNCTION_LINES_MAX = 70
COLUMNS_MAX = 100

BANNED = re.compile(
    r"\b(strcpy|strcat|sprintf|vsprintf|gets|strtok|atoi|atol|atof|alloca|rand|srand)\s*\(")
ALLOCATES = re.compile(r"(?<![\w>.])(malloc|calloc|realloc|free|strdup|strndup|asprintf|vasprintf"
                       r"|posix_memalign|aligned_alloc|getdelim|getline)\s*\(")
DEVICE_ALLOCATES = re.compile(r"\bcudaMalloc\w*\s*\(")
EXITS = re.compile(r"(?<![\w>.])(exit|abort|quick_exit)\s*\(")
TODO = re.compile(r"\b(TODO|FIXME|XXX)\b(?!\(#\d+\))")
# Split, so that this file does not find itself.
MACHINE_PATHS = re.compile("/" + r"work/(main|wt|shared)|/" + r"tmp/oracle|/" + "root/")

# Who may allocate: the arena itself, the device tables of kernels/ and programs outside the tree's
# own rules (an example shows what a user of the installed library writes).
MAY_ALLOCATE = re.compile(r"^(proto/base/arena\.c|kernels/(ref|cpu|cuda)/device_\w+\.cu?"
                          r"|client-sdk/examples/|tests/)")
MAY_EXIT = re.compile(r"(^|/)main\.c$|^client-sdk/examples/|^tests/|^proto/base/status\.c$")


def without_comments_and_strings(text: str) -> str:
    """The same lines with comments, string and character literals blanked."""
    token = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)
    return token.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


def check_c(path: str, text: str, report) -> None:
    lines = text.split("\n")
    code = without_comments_and_strings(text).split("\n")
    if not text.startswith("/*"):
        report(path, 1, "a file opens with a comment: what it is for, what to read next")
    if len(lines) - 1 > LINES_MAX:
        report(path, len(lines) - 1, f"{len(lines) - 1} lines, at most {LINES_MAX}")
    function_begin = 0
    for number, (line, bare) in enumerate(zip(lines, code), start=1):
        if not function_begin and bare.rstrip().endswith(") {"):
            function_begin = number
        elif function_begin and bare.startswith("}"):
            count = number - function_begin + 1
            if count > FUNCTION_LINES_MAX:
                report(path, function_begin, f"function of {count} lines, at most "
                       f"{FUNCTION_LINES_MAX}")
            function_begin = 0
        for pattern, exempt, why in (
                (BANNED, None, "banned function"),
                (ALLOCATES, MAY_ALLOCATE, "allocate through proto/base/arena.h"),
                (DEVICE_ALLOCATES, re.compile("^kernels/cuda/"), "only in kernels/cuda"),
                (EXITS, MAY_EXIT, "only main.c ends the process")):
            found = pattern.search(bare)
            if found and not (exempt and exempt.search(path)):
                report(path, number, f"{found.group(1) if pattern.groups else found.group()}: {why}")


def check_any(path: str, text: str, report) -> None:
    source = path.endswith((".c", ".h", ".cu", ".cuh"))
    for number, line in enumerate(text.split("\n"), start=1):
        if source and len(line) > COLUMNS_MAX:
            report(path, number, f"{len(line)} columns, at most {COLUMNS_MAX}")
        if line != line.rstrip() and not path.endswith(".md"):
            report(path, number, "trailing blanks")
        if source and "\t" in line:
            report(path, number, "tab")
        if TODO.search(line) and (source or path.endswith((".py", ".sh", ".cmake"))):
            if not path.startswith("tests/tidy"):
                report(path, number, "TODO or FIXME without an issue number: TODO(#12)")
        if MACHINE_PATHS.search(line):
            report(path, number, "a path of the machine it was written on")


def main() -> int:
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1])
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"],
                            cwd=root, check=True, capture_output=True, text=True).stdout.split("\n")
    errors = []

    def report(path, number, why):
        errors.append(f"{path}:{number}: {why}")

    checked = 0
    for path in sorted(set(listed)):
        if not path.endswith((".c", ".h", ".cu", ".cuh", ".py", ".sh", ".md", ".txt", ".cmake",
                              ".proto", ".service", ".conf")):
            continue
        if not (root / path).exists() or path == "LICENSE":
            continue
        text = (root / path).read_text(encoding="utf-8")
        checked += 1
        check_any(path, text, report)
        if path.endswith((".c", ".h", ".cu", ".cuh")):
            check_c(path, text, report)
    print("\n".join(errors + [f"tidy: {checked} files, {len(errors)} errors"]))
    return 1 if errors or not checked else 0


sys.exit(main())
