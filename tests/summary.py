"""Sum up the JUnit files that ctest wrote: summary.py FOLDER FAILED_PHASES.

Prints one line "N passed, N failed, N skipped" and exits 1 when a test or a phase failed, or when
nothing ran.  A phase that failed without a failed test (a build error) counts as one failure.
"""
import pathlib
import sys
import xml.etree.ElementTree as ElementTree


def main() -> int:
    passed = failed = skipped = 0
    for path in sorted(pathlib.Path(sys.argv[1]).glob("*.xml")):
        for case in ElementTree.parse(path).getroot().iter("testcase"):
            status = case.get("status")
            if status == "run":
                passed += 1
            elif status in ("notrun", "disabled"):
                skipped += 1
                print(f"skipped: {path.stem} {case.get('name')}")
            else:
                failed += 1
                print(f"FAILED: {path.stem} {case.get('name')}")
    if failed == 0:
        failed = int(sys.argv[2])
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


sys.exit(main())
