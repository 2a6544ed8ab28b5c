#!/usr/bin/env python3
"""The written-out chat form of tests/golden/test_rows.py equals SmolLM2's own template by Jinja.

    check_chat.py            needs transformers (for jinja2) and SmolLM2's GGUF
"""

import os
import sys

import jinja2
from gguf import GGUFReader

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden"))
import test_rows  # noqa: E402
import text_support as support  # noqa: E402


def main():
    path = support.smollm2()
    if path is None:
        sys.exit("SmolLM2's GGUF is not in the cache (SEAM_SMOLLM2_GGUF)")
    template = GGUFReader(path).fields["tokenizer.chat_template"].contents()
    render = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(template)
    for chat in test_rows.CHATS:
        rows = [{"role": role, "content": text} for role, text in chat]
        want = render.render(messages=rows, add_generation_prompt=False)
        assert want == test_rows.chat_text(chat), (want, test_rows.chat_text(chat))
    print(f"{len(test_rows.CHATS)} conversations: equal")


if __name__ == "__main__":
    main()
