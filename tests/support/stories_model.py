#!/usr/bin/env python3
"""Puts the 260-thousand-parameter model of the shared fixtures into OUT as a Hugging Face directory.

    stories_model.py OUT            exit 77 (skipped) where the shared fixtures are absent
"""

import os
import subprocess
import sys

here = os.path.dirname(os.path.abspath(__file__))
root = os.path.dirname(os.path.dirname(here))
shared = os.environ.get("SEAM_SHARED_DIR", os.path.join(root, "..", "shared"))
source = os.path.join(shared, "fixtures", "stories260k", "stories260K.bin")
if not os.path.exists(source):
    print(f"skipped: no shared fixtures at {source}")
    sys.exit(77)
script = os.path.join(root, "tests", "oracle", "stories260k_to_hf.py")
sys.exit(subprocess.run([sys.executable, script, source, sys.argv[1]]).returncode)
