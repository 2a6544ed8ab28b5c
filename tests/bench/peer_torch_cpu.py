#!/usr/bin/env python3
"""bench_step's training step as its users would write it in PyTorch: transformers + peft, CPU.

    peer_torch_cpu.py [VARIANTS [THREADS [STEPS [LENGTH:PROMPT,...]]]]

SmolLM2-135M's shape with random weights, LoRA of rank 16 on all projections, AdamW, the batch
padded to its longest sequence, prompt labels masked.  VARIANTS, comma-separated, or "all":
  f32        everything in f32
  bf16       the model in bf16, adapters as peft casts them (f32)
  bf16-lora  the model and the adapters in bf16
  autocast   f32 weights under torch.autocast(bfloat16)
tokens/s counts valid tokens, not padding.  One warm-up step is not counted.
"""

import os
import sys
import time
import warnings

import peft
import torch
import transformers

DEFAULT = ",".join(["384:333"] * 5)
VARIANTS = ["f32", "bf16", "bf16-lora", "autocast"]


def build(variant):
    config = transformers.LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
        num_attention_heads=9, num_key_value_heads=3, head_dim=64, max_position_embeddings=8192,
        rms_norm_eps=1e-5, rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
        tie_word_embeddings=True, use_cache=False,
    )
    dtype = torch.bfloat16 if variant.startswith("bf16") else torch.float32
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype)
    lora = peft.LoraConfig(
        r=16, lora_alpha=16, lora_dropout=0.0, task_type="CAUSAL_LM",
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj",
                        "down_proj"],
    )
    return peft.get_peft_model(model, lora, autocast_adapter_dtype=variant != "bf16-lora")


def batch_of(spec):
    pairs = [tuple(int(n) for n in item.split(":")) for item in spec.split(",")]
    longest = max(length for length, _ in pairs)
    ids = torch.zeros(len(pairs), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, -100)
    for i, (length, prompt) in enumerate(pairs):
        ids[i, :length] = torch.randint(0, 49152, (length,))
        mask[i, :length] = 1
        labels[i, prompt:length] = ids[i, prompt:length]
    return ids, mask, labels, sum(length for length, _ in pairs)


def measure(variant, steps, spec):
    torch.manual_seed(0)
    model = build(variant).train()
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-4, foreach=True)
    ids, mask, labels, tokens = batch_of(spec)

    def step():
        begin = time.monotonic()
        with torch.autocast("cpu", torch.bfloat16, enabled=variant == "autocast"):
            loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return time.monotonic() - begin

    step()
    seconds = [step() for _ in range(steps)]
    mean, best = tokens * steps / sum(seconds), tokens / min(seconds)
    print(f"torch {variant}: {tokens} tokens; {mean:.0f} tokens/s mean, {best:.0f} best", flush=True)
    return mean


def main(variants="all", threads="0", steps="3", spec=DEFAULT):
    warnings.filterwarnings("ignore")
    torch.set_num_threads(int(threads) or len(os.sched_getaffinity(0)))
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, "
          f"peft {peft.__version__}, {torch.get_num_threads()} threads")
    names = VARIANTS if variants == "all" else variants.split(",")
    rates = {name: measure(name, int(steps), spec) for name in names}
    best = max(rates, key=rates.get)
    print(f"torch's best: {best}, {rates[best]:.0f} tokens/s")


if __name__ == "__main__":
    main(*sys.argv[1:])
