"""SmolLM2's blocks for many training runs at once.

All runs see the same micro-batch, so their activations stand as (runs, rows, channels): products
with frozen weights are one large product, LoRA's are batched by run.  Rows are valid tokens only;
attention alone pads, to the longest sequence.  Products in bf16 with f32 results of norms, residual
stream, loss and adapters.
"""
import math

import torch
import torch.nn.functional as F

RANK, SCALE = 16, 1.0  # alpha 16
HEAD_ROWS = 8192  # rows whose logits stand in memory at once


class Pad(torch.autograd.Function):
    """(runs, rows, c) -> (runs, padded, c) by an index without repetition; zeros elsewhere."""

    @staticmethod
    def forward(ctx, x, index, padded):
        ctx.save_for_backward(index)
        return x.new_zeros(x.shape[0], padded, x.shape[2]).index_copy_(1, index, x)

    @staticmethod
    def backward(ctx, dy):
        return dy.index_select(1, ctx.saved_tensors[0]), None, None


class Unpad(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, index):
        ctx.save_for_backward(index)
        ctx.padded = x.shape[1]
        return x.index_select(1, index)

    @staticmethod
    def backward(ctx, dy):
        dx = dy.new_zeros(dy.shape[0], ctx.padded, dy.shape[2])
        return dx.index_copy_(1, ctx.saved_tensors[0], dy), None


class Batch:
    """Rows of one micro-batch: ids and positions of inputs, targets of labelled rows."""

    def __init__(self, sequences, device):
        """sequences: (token ids, prompt length) each; the last token is no input."""
        lengths = [len(ids) - 1 for ids, _ in sequences]
        longest = max(lengths)
        ids, positions, index, labelled, targets, first, at = [], [], [], [], [], [], 0
        for s, (tokens, prompt) in enumerate(sequences):
            rows = len(tokens) - 1
            ids += tokens[:-1]
            positions += range(rows)
            index += range(s * longest, s * longest + rows)
            first.append(len(labelled))
            labelled += range(at + prompt - 1, at + rows)
            targets += tokens[prompt:]
            at += rows

        def to_device(values):
            return torch.tensor(values, device=device)

        self.ids, self.positions, self.index = map(to_device, (ids, positions, index))
        self.labelled, self.targets = to_device(labelled), to_device(targets)
        self.first = to_device(first)  # of each sequence, among the labelled rows
        self.rows, self.labels = len(ids), len(labelled)
        self.sequences, self.longest, self.token_ids = len(sequences), longest, ids


class Llama:
    def __init__(self, config, weights, device, dtype=torch.bfloat16):
        self.c, self.device, self.dtype = config, device, dtype
        self.head_dim = config["hidden"] // config["heads"]

        def frozen(*names, kind=dtype):
            parts = [torch.from_numpy(weights[n].copy()) for n in names]
            return torch.cat(parts).to(device=device, dtype=kind)

        self.embedding = frozen("token_embd")
        self.final_norm = frozen("output_norm", kind=torch.float32)
        self.layers = []
        for i in range(config["layers"]):
            b = f"blk.{i}."
            self.layers.append({
                "qkv": frozen(b + "attn_q", b + "attn_k", b + "attn_v"),
                "o": frozen(b + "attn_output"),
                "gate_up": frozen(b + "ffn_gate", b + "ffn_up"),
                "down": frozen(b + "ffn_down"),
                "norm1": frozen(b + "attn_norm", kind=torch.float32),
                "norm2": frozen(b + "ffn_norm", kind=torch.float32),
            })
        half = torch.arange(self.head_dim // 2, device=device, dtype=torch.float32)
        self.frequency = config["theta"] ** (-2.0 * half / self.head_dim)

    def adapters(self, runs, seed):
        """Stacked LoRA parameters of q and v; every run starts from the same values (peft's)."""
        generator = torch.Generator().manual_seed(seed)
        c, bound = self.c["hidden"], 1.0 / math.sqrt(self.c["hidden"])
        kv = self.c["kv_heads"] * self.head_dim
        layers = []
        for _ in range(self.c["layers"]):
            a = (torch.rand(2 * RANK, c, generator=generator) * 2.0 - 1.0) * bound
            shapes = {"a": a.expand(runs, -1, -1), "q": torch.zeros(runs, c, RANK),
                      "v": torch.zeros(runs, kv, RANK)}
            layers.append({k: t.to(self.device).contiguous().requires_grad_()
                           for k, t in shapes.items()})
        return layers

    def embed(self, batch):
        return self.embedding[batch.ids].float()

    def rotate(self, x, cos, sin):
        """x (runs, rows, heads * d) in Hugging Face's halves; the products are f32."""
        v = x.unflatten(-1, (-1, 2, self.head_dim // 2))
        a, b = v[..., 0, :], v[..., 1, :]
        return torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-2).to(x.dtype).view_as(x)

    def attention(self, q, k, v, batch):
        padded = batch.sequences * batch.longest

        def heads(x):
            x = Pad.apply(x, batch.index, padded)
            return x.view(-1, batch.longest, x.shape[2] // self.head_dim,
                          self.head_dim).transpose(1, 2)

        # Padding stands behind its sequence, so the causal mask keeps it from every valid row.
        out = F.scaled_dot_product_attention(heads(q), heads(k), heads(v), is_causal=True,
                                             enable_gqa=True)
        out = out.transpose(1, 2).reshape(q.shape[0], padded, -1)
        return Unpad.apply(out, batch.index)

    def block(self, x, layer, adapter, batch, cos, sin):
        hidden, eps = self.c["hidden"], self.c["eps"]
        kv = self.c["kv_heads"] * self.head_dim
        y = F.rms_norm(x, (hidden,), layer["norm1"], eps).to(self.dtype)
        q, k, v = F.linear(y, layer["qkv"]).split([hidden, kv, kv], dim=-1)
        low = torch.bmm(y, adapter["a"].to(self.dtype).mT)
        q = torch.baddbmm(q, low[..., :RANK], adapter["q"].to(self.dtype).mT, alpha=SCALE)
        v = torch.baddbmm(v, low[..., RANK:], adapter["v"].to(self.dtype).mT, alpha=SCALE)
        q, k = self.rotate(q, cos, sin), self.rotate(k, cos, sin)
        x = x + F.linear(self.attention(q, k, v, batch), layer["o"])
        y = F.rms_norm(x, (hidden,), layer["norm2"], eps).to(self.dtype)
        gate, up = F.linear(y, layer["gate_up"]).chunk(2, dim=-1)
        return x + F.linear(F.silu(gate) * up, layer["down"])

    def blocks(self, x, adapters, batch):
        angle = batch.positions[:, None].float() * self.frequency
        cos, sin = angle.cos()[None, :, None], angle.sin()[None, :, None]
        for layer, adapter in zip(self.layers, adapters):
            x = self.block(x, layer, adapter, batch, cos, sin)
        return x

    def head(self, h, targets, need_gradient):
        """Mean loss of each run (runs) over its labelled rows and its gradient (runs, n, c)."""
        runs, count, _ = h.shape
        with torch.enable_grad():
            leaf = h.detach().requires_grad_(need_gradient)
            y = F.rms_norm(leaf, (self.c["hidden"],), self.final_norm, self.c["eps"])
        flat = y.detach().reshape(runs * count, -1)
        every = targets.repeat(runs)
        losses = torch.empty(runs * count, device=h.device)
        dy = torch.empty_like(flat) if need_gradient else None
        for begin in range(0, runs * count, HEAD_ROWS):
            part = slice(begin, begin + HEAD_ROWS)
            logits = F.linear(flat[part].to(self.dtype), self.embedding).float()
            logits = logits.log_softmax(dim=-1)
            losses[part] = -logits.gather(1, every[part, None])[:, 0]
            if need_gradient:
                p = logits.exp_()
                p.scatter_add_(1, every[part, None], p.new_full((p.shape[0], 1), -1.0))
                dy[part] = (p.to(self.dtype) @ self.embedding).float() / count
        gradient = torch.autograd.grad(y, leaf, dy.view_as(y))[0] if need_gradient else None
        return losses.view(runs, count), gradient

    def choice_logits(self, h, tokens):
        """Logits of `tokens` (n, choices; -1: none, -inf) at rows h (runs, n, c)."""
        y = F.rms_norm(h, (self.c["hidden"],), self.final_norm, self.c["eps"]).to(self.dtype)
        columns = self.embedding[tokens.clamp(min=0)]
        logits = torch.einsum("rnc,nkc->rnk", y.float(), columns.float())
        return logits.masked_fill(tokens < 0, -math.inf)
