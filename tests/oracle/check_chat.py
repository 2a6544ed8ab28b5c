#!/usr/bin/env python3
"""Conversations as Seam renders them against transformers' apply_chat_template, live.

    check_chat.py DUMP_ROWS

SmolLM2's own template, out of its GGUF, and templates of the other families: they are put together
here from the rule of each (what stands around a message, its begin token, its default system message,
Llama-3.1's dates), since the models' files are not at hand; transformers runs them by Jinja.  A file's
JSON may have a line break in a literal as such or as the two characters of its escape: both are here.  Random
conversations: the ids are those of the rendered text, encoded in two parts at the border before each
reply (where generation begins as well), and end with the last reply; the labels are the replies and
the token that ends each.
"""

import json
import os
import random
import sys
import tempfile

import transformers
from gguf import GGUFReader

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden"))
import test_rows  # noqa: E402
import text_support as support  # noqa: E402

LLAMA3_HEAD = ("'<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + "
               "message['content'] | trim + '<|eot_id|>'")
LLAMA3_REPLY = "'<|start_header_id|>assistant<|end_header_id|>\\n\\n'"
LLAMA3 = ("{% for message in messages %}{% set content = " + LLAMA3_HEAD + " %}"
          "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}"
          "{% endfor %}{% if add_generation_prompt %}{{ " + LLAMA3_REPLY + " }}{% endif %}")
LLAMA31 = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{%- set system_message = "" %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message + "<|eot_id|>" }}
{%- for message in messages %}
    {{- """ + LLAMA3_HEAD + """ }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- """ + LLAMA3_REPLY + """ }}
{%- endif %}
"""


def phi3(system_test):
    roles = [("system", system_test), ("user", ""), ("assistant", "")]
    cases = "".join(
        "{% " + ("if" if i == 0 else "elif") + f" message['role'] == '{role}'{test}" + " %}{{'<|" + role
        + "|>\\n' + message['content'] + '<|end|>\\n'}}" for i, (role, test) in enumerate(roles))
    return ("{% for message in messages %}" + cases + "{% endif %}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}")


PHI3_TURNS = ("{% for message in messages %}{% if (message['role'] == 'user') %}"
              "{{'<|user|>' + '\n' + message['content'] + '<|end|>' + '\n' + '<|assistant|>' + '\n'}}"
              "{% elif (message['role'] == 'assistant') %}{{message['content'] + '<|end|>' + '\n'}}"
              "{% endif %}{% endfor %}")  # line breaks in literals, as the model's file has them


def chatml(system):
    default = ("{% if messages[0].role != 'system' %}{{- '<|im_start|>system\\n" + system
               + "<|im_end|>\\n' }}{% endif %}") if system else ""
    return (default + "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + "
            "message.content + '<|im_end|>' + '\\n' }}{%- endfor %}"
            "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}")


LLAMA_TOKENS = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
# family: (template, tokenizer fixture, tokens to add, begin token, end token, ends a message)
FAMILIES = {
    "Llama-3": (LLAMA3, "dolma2", LLAMA_TOKENS, "<|begin_of_text|>", "<|eot_id|>", "<|eot_id|>"),
    "Llama-3, line breaks in literals": (LLAMA3.replace("\\n", "\n"), "dolma2", LLAMA_TOKENS,
                                         "<|begin_of_text|>", "<|eot_id|>", "<|eot_id|>"),
    "Llama-3.1": (LLAMA31, "dolma2", LLAMA_TOKENS, "<|begin_of_text|>", "<|eot_id|>", "<|eot_id|>"),
    "Phi-3": (phi3(""), "phi3", [], "<s>", "<|endoftext|>", "<|end|>"),
    "Phi-3.5": (phi3(" and message['content']"), "phi3", [], "<s>", "<|endoftext|>", "<|end|>"),
    "Phi-3, line breaks in literals": (phi3("").replace("\\n", "\n"), "phi3", [], "<s>", "<|endoftext|>",
                                       "<|end|>"),
    "Phi-3-medium": (PHI3_TURNS, "phi3", [], "<s>", "<|endoftext|>", "<|end|>"),
    "Phi-3-mini, first": ("{{ bos_token }}" + PHI3_TURNS, "phi3", [], "<s>", "<|endoftext|>", "<|end|>"),
    "Qwen2.5": (chatml("You are Qwen, created by Alibaba Cloud. You are a helpful assistant."), "dolma2",
                [], None, "<|im_end|>", "<|im_end|>"),
    "ChatML": (chatml(None), "minimind", [], None, "<|im_end|>", "<|im_end|>"),
}
REPLY_HEADS = ["<|start_header_id|>assistant<|end_header_id|>\n\n", "<|assistant|>\n",
               "<|im_start|>assistant\n"]


TAKES_TURNS = ("Phi-3-medium", "Phi-3-mini, first")  # no system message


def conversations(rng, count, has_system):
    words = ["hi", "Hello!\nHow are you?", "caf\u00e9 \U0001f999", "12 + 7 = 19", "\u4f60\u597d", " x ",
             "\n\nlines\n", "", "a\tb", "\u2581", "def f(x):\n    return x"]

    def text():
        return " ".join(rng.choices(words, k=rng.randint(1, 4)))

    for _ in range(count):
        chat = [("system", rng.choice([text(), ""]))] if has_system and rng.random() < 0.5 else []
        for _ in range(rng.randint(1, 3)):
            chat += [("user", text()), ("assistant", text())]
        yield [{"role": role, "content": content} for role, content in chat + [("user", "cut")]]


def folder_make(folder, family):
    template, fixture, more, bos, eos, _ = FAMILIES[family]
    with open(support.TOKENIZERS[fixture]) as f:
        root = json.load(f)
    first = 1 + max(max(root["model"]["vocab"].values()), *(t["id"] for t in root["added_tokens"]))
    root["added_tokens"] += [
        {"id": first + i, "content": t, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True} for i, t in enumerate(more)]
    with open(os.path.join(folder, "tokenizer.json"), "w") as f:
        json.dump(root, f)
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as f:
        json.dump({"chat_template": template, "bos_token": bos, "eos_token": eos}, f)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_file=os.path.join(folder, "tokenizer.json"), chat_template=template, bos_token=bos,
        eos_token=eos)


def expected(hf, chat, end):
    """Ids and labels up to the last reply, from the rendered text."""
    ids, labels = [], []
    swallows = hf("<|assistant|>\n")["input_ids"][-1:] == hf("<|assistant|>")["input_ids"][-1:]  # rstrip
    rest = hf.apply_chat_template(chat, tokenize=False)
    rest = rest[:rest.rindex(end, 0, rest.rindex(end)) + len(end)]  # the last message is the user's
    whole = rest
    is_reply = False
    while rest:
        heads = [rest.index(h) + len(h) for h in REPLY_HEADS if h in rest]
        at = min(heads) if heads and not is_reply else len(rest)
        if is_reply:
            at = rest.index(end) + len(end)
        if is_reply and swallows:
            at -= len(rest) - len(rest.lstrip())
            rest = rest.lstrip()
        part = hf(rest[:at], add_special_tokens=False)["input_ids"]
        ids += part
        labels += [is_reply] * len(part)
        rest, is_reply = rest[at:], not is_reply
    if swallows:  # then a reply begins behind a token, and its border changes nothing
        assert ids == hf(whole, add_special_tokens=False)["input_ids"]
    return ids, labels


def check(tool, family, count):
    with tempfile.TemporaryDirectory() as folder:
        hf = folder_make(folder, family)
        chats = list(conversations(random.Random(family), count, family not in TAKES_TURNS))
        path = os.path.join(folder, "rows.jsonl")
        with open(path, "w") as f:
            f.write("".join(json.dumps({"messages": c}) + "\n" for c in chats))
        got = test_rows.samples(tool, folder, path)
    for chat, (ids, labels) in zip(chats, got, strict=True):
        want, want_labels = expected(hf, chat, FAMILIES[family][5])
        assert hf.decode(ids) == hf.decode(want), (family, chat, hf.decode(ids), hf.decode(want))
        assert ids == want, (family, chat, ids, want)
        assert labels == want_labels, (family, chat, labels, want_labels)
    print(f"{family}: {count} conversations: equal", flush=True)


def check_smollm2(tool):
    path = support.smollm2()
    if path is None:
        print("SmolLM2's own template: not compared, its GGUF is not in the cache")
        return
    template = GGUFReader(path).fields["tokenizer.chat_template"].contents()
    hf = transformers.PreTrainedTokenizerFast(
        tokenizer_object=support.reference("smollm2", path), chat_template=template)
    for chat in test_rows.CHATS:
        rows = [{"role": role, "content": text} for role, text in chat]
        want = hf.apply_chat_template(rows, tokenize=False)
        assert want == test_rows.chat_text(chat), (want, test_rows.chat_text(chat))
    test_rows.chats(tool, path)


def main(tool):
    if not os.path.isdir(support.FIXTURES):
        print(f"skipped: {support.FIXTURES} is absent (SEAM_SHARED_DIR)")
        return 77
    check_smollm2(tool)
    for family in FAMILIES:
        check(tool, family, 200)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
