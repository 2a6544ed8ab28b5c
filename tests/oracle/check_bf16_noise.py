#!/usr/bin/env python3
"""How far PyTorch's own bf16 is from exact gradients on the model of tests/unit/test_full.c.

    check_bf16_noise.py

Every gradient of the blocks together, |bf16 - f64| / |f64|, by transformers' models with the weights
and words of synthetic_model.py.  test_full.c bounds the backends' bf16 by these figures, which it
names; they must still be PyTorch's to a hundredth.
"""

import pathlib
import re
import sys

import torch
import transformers

import synthetic_model

ROWS, VOCAB, STARTS, WEIGHT = 23, 53, (0, 9, 10, 23), 0.1
SHAPE = dict(vocab_size=VOCAB, hidden_size=40, intermediate_size=37, num_hidden_layers=3,
             num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-5,
             rope_theta=10000.0, tie_word_embeddings=False, pad_token_id=None, bos_token_id=None,
             eos_token_id=None)


def model(family, dtype):
    config = getattr(transformers, family + "Config")(**SHAPE)
    for name, value in (("hidden_size", 26), ("num_attention_heads", 6), ("head_dim", 20)):
        object.__setattr__(config, name, value)  # heads wider than the stream: its checks refuse
    made = getattr(transformers, family + "ForCausalLM")(config)
    with torch.no_grad():
        for name, values in made.named_parameters():
            values.copy_(torch.from_numpy(synthetic_model.tensor(name, tuple(values.shape))))
    return made.to(dtype)


def gradients(family, dtype):
    ids = torch.from_numpy(synthetic_model.words("ids", ROWS + 1) % VOCAB).long()
    counts = torch.from_numpy(synthetic_model.words("mask", ROWS) % 3 != 0)
    made, loss = model(family, dtype), 0.0
    for s, (begin, end) in enumerate(zip(STARTS, STARTS[1:], strict=False)):
        positions = torch.arange(end - begin)[None] + 2 * s
        logits = made(input_ids=ids[None, begin:end], position_ids=positions).logits[0]
        logits = logits if dtype == torch.float64 else logits.float()
        losses = torch.nn.functional.cross_entropy(logits, ids[begin + 1:end + 1], reduction="none")
        loss = loss + WEIGHT * (losses * counts[begin:end]).sum()
    loss.backward()
    return torch.cat([p.grad.double().flatten() for n, p in made.named_parameters() if "layers" in n])


def main():
    source = pathlib.Path(__file__).parent.parent / "unit/test_full.c"
    named = re.search(r"torch_bf16\[\] = \{([^}]*)\}", source.read_text())[1].split(",")
    for family, text in zip(("Llama", "Qwen2", "Phi3"), named, strict=True):
        exact = gradients(family, torch.float64)
        error = float((gradients(family, torch.bfloat16) - exact).norm() / exact.norm())
        print(f"{family}: PyTorch's bf16 is off by {error:.5f}, test_full.c names {float(text)}")
        if abs(error / float(text) - 1) > 0.01:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
