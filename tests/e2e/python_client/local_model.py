"""The client's share of a Llama-family model in NumPy: embedding, final norm, head, loss."""
import json
import os
import struct

import numpy as np
from safetensors.numpy import load_file

from wire_numpy.bits import fnv


class LocalModel:
    def __init__(self, folder):
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            self.config = c = json.load(file)
        tensors = load_file(os.path.join(folder, "model.safetensors"))
        self.embedding = tensors["model.embed_tokens.weight"].astype(np.float32)
        self.norm = tensors["model.norm.weight"].astype(np.float64)
        self.head = tensors.get("lm_head.weight", self.embedding).astype(np.float64)
        self.eps = c["rms_norm_eps"]
        # WIRE.md section 6
        heads = c["num_attention_heads"]
        self.identity = fnv(struct.pack(
            "<7Ifd", c["vocab_size"], c["hidden_size"], c["intermediate_size"],
            c["num_hidden_layers"], heads, c.get("num_key_value_heads", heads),
            c.get("head_dim", c["hidden_size"] // heads), self.eps, c["rope_theta"]))

    def embed(self, ids):
        return self.embedding[ids]

    def loss(self, y, targets, labelled_row_count):
        """Sum of the rows' losses in nats, and dL/dy of the mean over labelled_row_count rows."""
        y = y.astype(np.float64)
        rstd = 1.0 / np.sqrt(np.mean(y * y, axis=1, keepdims=True) + self.eps)
        unit = y * rstd
        logits = (unit * self.norm) @ self.head.T
        logits -= logits.max(axis=1, keepdims=True)
        p = np.exp(logits)
        total = p.sum(axis=1, keepdims=True)
        rows = np.arange(len(targets))
        loss = float(np.sum(np.log(total[:, 0]) - logits[rows, targets]))
        p /= total
        p[rows, targets] -= 1.0
        d = (p / labelled_row_count) @ self.head * self.norm
        dy = rstd * (d - unit * np.mean(d * unit, axis=1, keepdims=True))
        return loss, dy.astype(np.float32)
