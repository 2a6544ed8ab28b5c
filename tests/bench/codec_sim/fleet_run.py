"""A job of codec_sim.py: the training steps, the evaluation and the records of all its runs.

Runs with the same kind of codec at a site are processed together (index lists in `sites`).  Nothing
here waits for the device in a step; what is logged stays there until records() reads it.
"""
import torch

import codecs_torch as codecs
import payload
from allocation import Allocation

FWD_IN, FWD_OUT, BWD_OUT, BWD_IN = range(4)
ENTROPY_EVERY = 25
TAIL = 0.1  # the last share of the steps, which stands for "once the target is reached"
CLIP_NORM = 1.0
SENT = ("fwd_in", "fwd_out", "bwd_out", "signal", "bwd_in", "headers")


class Cache:
    """AQ-SGD's m of every training row of one site, fp16; `known` from its first visit on."""

    def __init__(self, rows_file, runs, channels, device):
        self.values = torch.zeros(runs, rows_file, channels, dtype=torch.float16, device=device)
        self.known = set()


class Job:
    def __init__(self, model, runs, train, rows, steps, seed, rate):
        self.model, self.runs, self.steps = model, runs, steps
        self.device, self.channels = model.device, model.c["hidden"]
        self.adapters = model.adapters(len(runs), seed)
        self.parameters = [p for layer in self.adapters for p in layer.values()]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=rate, weight_decay=0.0,
                                           fused=self.device == "cuda")
        self.random = torch.Generator(self.device).manual_seed(seed)
        self.affine = self.indices(lambda r: r["kind"] == "affine")
        affine = [runs[i] for i in self.affine.tolist()]
        self.allocation = (Allocation(affine, self.channels, steps, self.device)
                           if affine else None)
        self.exact = self.positions(affine, lambda r: r["exact"])
        # Which runs have which kind at fwd_in and at fwd_out, bwd_out.
        self.sites = [{k: self.indices(lambda r, f=field, k=k: r[f] == k)
                       for k in ("raw", "affine", "tensor", "channel", "group", "aqsgd")}
                      for field in ("kind_in", "kind")]
        # Among the affine runs: those with the grid at fwd_in too, and of these the exact ones.
        self.in_affine = self.positions(affine, lambda r: r["kind_in"] == "affine")
        self.exact_in = self.positions([r for r in affine if r["kind_in"] == "affine"],
                                       lambda r: r["exact"])
        self.bits = torch.tensor([float(r["bits"]) for r in runs], device=self.device)
        self.caches_open(train, rows)
        self.losses, self.totals, self.shapes, self.tokens, self.entropy = [], [], [], [], []

    def indices(self, test):
        return self.positions(self.runs, test)

    def positions(self, runs, test):
        which = [i for i, r in enumerate(runs) if test(r)]
        return torch.tensor(which, dtype=torch.long, device=self.device)

    def caches_open(self, train, rows):
        count = len(self.sites[0]["aqsgd"])
        sizes = [0, 0]
        self.cache_at = [[0], [0]]
        for i in range(rows):
            inputs = int(train.begins[i + 1] - train.begins[i]) - 1
            labelled = inputs + 1 - int(train.prompts[i])
            for site, n in ((FWD_IN, inputs), (FWD_OUT, labelled)):
                sizes[site] += n
                self.cache_at[site].append(sizes[site])
        self.caches = [Cache(s, count, self.channels, self.device) for s in sizes if count]

    # ---- sites ----

    def aqsgd_forward(self, site, x, batch):
        """m of the rows of this batch after the update; the first visit is not compressed."""
        cache, at = self.caches[site], self.cache_at[site]
        where = torch.cat([torch.arange(at[i], at[i + 1], device=self.device)
                           for i in batch.rows_of_file])
        known = [i in cache.known for i in batch.rows_of_file]
        if any(known) != all(known):
            raise AssertionError("an epoch mixes known and new rows")
        cache.known.update(batch.rows_of_file)
        m = cache.values[:, where].float()
        if known[0]:
            m = m + codecs.aqsgd(x - m, self.bits[self.sites[0]["aqsgd"]])
        else:
            m = x.bfloat16().float()
        m = m.half()
        cache.values[:, where] = m
        return m.float()

    def forward(self, site, x, batch, through=True, training=True):
        """x (runs or 1, rows, c) as the receiver sees it; keeps the affine grid of the site."""
        every = x.expand(len(self.runs), -1, -1)
        out = every.bfloat16().float()
        if not through:
            return out
        kinds = self.sites[0 if site == FWD_IN else 1]
        for kind in ("tensor", "channel", "group"):
            which = kinds[kind]
            if len(which):
                out[which] = codecs.symmetric(every[which], self.bits[which], kind)
        which = kinds["aqsgd"]
        if len(which):
            cached = training and self.caches
            out[which] = (self.aqsgd_forward(site, every[which], batch) if cached
                          else codecs.aqsgd(every[which], self.bits[which]))
        which = kinds["affine"]
        if len(which):
            out[which] = self.affine_forward(site, every[which], training)
        return out

    def affine_forward(self, site, x, training):
        rows = self.in_affine if site == FWD_IN else slice(None)
        lo, hi = codecs.ranges(x)
        step, levels = codecs.grid(lo, hi, self.allocation.widths[site][rows])
        q = codecs.affine_codes(x, lo, step, levels)
        if training:
            self.grids[site] = (hi - lo, step)
            self.entropy_sample(site, q, rows)
        decoded = codecs.affine_values(q, lo, step)
        if training:
            self.errors[site] = (x, decoded.clone())
        return decoded

    def entropy_sample(self, site, q, rows):
        if self.sampled:
            widths = self.allocation.widths[1 if site == BWD_OUT else site][rows]
            plain = widths.double().sum(dim=1) * q.shape[1]
            ratio = torch.ones(len(self.affine), dtype=torch.float64, device=self.device)
            ratio[rows] = codecs.entropy_bits(q, widths) / plain
            self.entropy[-1][site] = ratio

    def backward(self, g, batch):
        """bwd_out: direct quantization, stochastic but for AQ-SGD (raw in its first epoch)."""
        out = g.bfloat16().float()
        u = codecs.uniform(g.shape[1:], self.random, self.device)
        kinds = self.sites[1]
        for kind in ("tensor", "channel", "group"):
            which = kinds[kind]
            if len(which):
                out[which] = codecs.symmetric(g[which], self.bits[which], kind, u)
        which = kinds["aqsgd"]
        if len(which) and not self.warming:
            out[which] = codecs.aqsgd(g[which], self.bits[which])
        which = kinds["affine"]
        if len(which):
            x = g[which]
            lo, hi = codecs.ranges(x)
            step, levels = codecs.grid(lo, hi, self.allocation.widths[1])
            q = codecs.affine_codes(x, lo, step, levels, u)
            self.entropy_sample(BWD_OUT, q, slice(None))
            out[which] = codecs.affine_values(q, lo, step)
        return out

    # ---- a step ----

    def step(self, step, batch):
        self.sampled = step % ENTROPY_EVERY == 0 or step == self.steps - 1
        if self.sampled:
            self.entropy.append({"step": step})
        self.warming = bool(self.caches) and batch.rows_of_file[0] not in self.caches[0].known
        self.grids, self.errors = {}, {}
        with torch.no_grad():
            x = self.forward(FWD_IN, self.model.embed(batch)[None], batch)
        x.requires_grad_()
        h = self.model.blocks(x, self.adapters, batch).index_select(1, batch.labelled)
        with torch.no_grad():
            received = self.forward(FWD_OUT, h.detach(), batch)
        losses, g = self.model.head(received, batch.targets, True)
        with torch.no_grad():
            g = self.backward(g, batch)
        h.backward(g)
        with torch.no_grad():
            self.keep(losses.mean(dim=1), batch)
            if self.allocation is not None:
                self.allocate(step, x.grad, g, batch)
        self.clip()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def keep(self, losses, batch):
        self.losses.append(losses)
        self.shapes.append((batch.rows, batch.labels, self.warming))
        self.tokens.append(batch.token_ids)
        if self.allocation is not None:
            self.totals.append(torch.stack([w.sum(dim=1) for w in self.allocation.widths]))

    def allocate(self, step, dx, g, batch):
        a, which = self.allocation, self.sites[0]["affine"]
        a.weigh(batch.rows, batch.labels)
        every = torch.zeros(a.count, self.channels, dtype=torch.float64, device=self.device)
        signals = [every, every]
        if len(which):
            squares, signal, span = every.clone(), every.clone(), every.clone()
            spans, step_in = self.grids[FWD_IN]
            seen, rows = dx[which], self.in_affine
            squares[rows] = seen.square().sum(dim=1).double()
            span[rows] = spans.double()
            signal[rows] = codecs.gradient_surrogate(squares[rows], step_in, a.widths[0][rows],
                                                     batch.labels)
            if len(self.exact):
                signal[self.exact] = self.exact_signal(seen)
            a.observe(FWD_IN, squares, batch.rows, span)
            signals[0] = signal
        else:
            a.observe(FWD_IN, every, batch.rows, every)
        sent = g[self.affine]
        a.observe(FWD_OUT, sent.square().sum(dim=1), batch.labels, self.grids[FWD_OUT][0])
        signals[1] = codecs.gradient_exact(sent, *self.errors[FWD_OUT], a.widths[1])
        a.after_step(step, signals)

    def exact_signal(self, dx):
        """dL/db of fwd_in from bwd_in as it would travel, for the runs of gate_signal = exact."""
        at = self.exact_in
        widths = self.allocation.widths[0][self.exact]
        g = dx[at]
        lo, hi = codecs.ranges(g)
        step, levels = codecs.grid(lo, hi, widths)
        u = codecs.uniform(g.shape[1:], self.random, self.device)
        g = codecs.affine_values(codecs.affine_codes(g, lo, step, levels, u), lo, step)
        x, decoded = self.errors[FWD_IN]
        return codecs.gradient_exact(g, x[at], decoded[at], widths)

    def clip(self):
        """Global norm of each run by itself; a run that is not finite keeps to itself."""
        grads = [p.grad for p in self.parameters]
        norms = torch.stack([g.square().sum(dim=(1, 2)) for g in grads]).sum(dim=0).sqrt()
        factor = (CLIP_NORM / (norms + 1e-6)).clamp(max=1.0).view(-1, 1, 1)
        for g in grads:
            g.mul_(factor)

    # ---- results ----

    @torch.no_grad()
    def evaluate(self, test, rows, size, through):
        """Loss a token on the first `rows` of the test file, and accuracy of choices, a run."""
        total = torch.zeros(len(self.runs), dtype=torch.float64, device=self.device)
        right, labels, asked = torch.zeros_like(total), 0, 0
        for begin in range(0, rows, size):
            batch = test.batch(list(range(begin, min(begin + size, rows))), self.device)
            x = self.forward(FWD_IN, self.model.embed(batch)[None], batch, through, False)
            h = self.model.blocks(x, self.adapters, batch).index_select(1, batch.labelled)
            h = self.forward(FWD_OUT, h, batch, through, False)
            losses, _ = self.model.head(h, batch.targets, False)
            total += losses.double().sum(dim=1)
            labels += batch.labels
            if (batch.choices >= 0).any():
                logits = self.model.choice_logits(h[:, batch.first], batch.choices)
                right += (logits.argmax(dim=-1) == batch.answers).sum(dim=1)
                asked += batch.sequences
        accuracy = (right / asked).tolist() if asked else None
        return {"loss": (total / labels).tolist(), "accuracy": accuracy}

    def memory_gib(self):
        return torch.cuda.max_memory_allocated() / 2 ** 30 if self.device == "cuda" else 0.0

    def records(self, results):
        losses = torch.stack(self.losses).cpu().double()
        totals = torch.stack(self.totals).cpu().double() if self.totals else None
        affine = self.affine.tolist()
        records = []
        for i, run in enumerate(self.runs):
            record = {"name": run["name"], "bits": run["bits"], "steps": len(losses)}
            every = max(1, len(losses) // 40)
            record["train_loss"] = [round(v, 5) for v in losses[::every, i].tolist()]
            epoch = max(1, len(losses) // 5)
            record["train_loss_last"] = losses[-epoch:, i].mean().item()
            for through, label in ((True, "codec"), (False, "plain")):
                record[f"loss_{label}"] = results[through]["loss"][i]
                if results[through]["accuracy"]:
                    record[f"accuracy_{label}"] = results[through]["accuracy"][i]
            at = affine.index(i) if i in affine else None
            sums = None if at is None else totals[:, :, at]
            record.update(self.traffic(run, sums))
            if at is not None:
                record.update(self.width_record(at, sums, every))
            records.append(record)
        return records

    def width_record(self, at, sums, every):
        c = self.channels
        classes = [torch.bincount(w[at].long().cpu(), minlength=17).tolist()
                   for w in self.allocation.widths]
        ratios = {name: [s[site][at].item() for s in self.entropy if site in s]
                  for name, site in (("fwd_in", FWD_IN), ("fwd_out", FWD_OUT),
                                     ("bwd_out", BWD_OUT))}
        return {"width_classes": classes, "widths_in": (sums[::every, 0] / c).tolist(),
                "widths_out": (sums[::every, 1] / c).tolist(), "entropy": ratios}

    def traffic(self, run, sums):
        """Payload and header bytes of the run, by site; of the whole run and of a late step.

        Mean widths count the forward sites that have a grid: not a dictionary's fwd_in."""
        c, steps = self.channels, len(self.shapes)
        late = max(1, int(steps * TAIL))
        dictionary = payload.dictionary_bytes(self.tokens, c)
        whole, tail = dict.fromkeys(SENT, 0), dict.fromkeys(SENT, 0)
        bits, values, everything = [[0.0, 0.0], [0.0, 0.0]], [[0, 0], [0, 0]], 0
        for s, (rows, labels, _) in enumerate(self.shapes):
            widths = self.row_bits(run, sums, s)
            sent, all_rows = self.step_bytes(run, s, widths)
            if run.get("in_site") == 0.0:
                sent["fwd_in"] = dictionary[s]
            for stretch in (0, 1) if s >= steps - late else (0,):
                for site, n in ((0, rows), (1, labels)):
                    bits[stretch][site] += n * widths[site]
                    values[stretch][site] += n * c
            for name in SENT:
                whole[name] += sent[name]
                tail[name] += sent[name] if s >= steps - late else 0
            everything += all_rows if s >= steps - late else 0
        counted = slice(1, 2) if run.get("in_site") == 0.0 else slice(0, 2)
        mean = [sum(b[counted]) / sum(v[counted]) for b, v in zip(bits, values)]
        return {"bytes_run": whole, "bytes_late": {k: v / late for k, v in tail.items()},
                "bytes_late_all_rows_all_sites": everything / late, "channels": c,
                "dictionary_run": sum(dictionary),
                "dictionary_late": sum(dictionary[-late:]) / late,
                "mean_run": mean[0], "mean_late": mean[1],
                "site_late": [b / v for b, v in zip(bits[1], values[1])],
                "rows_mean": sum(r for r, _, _ in self.shapes) / steps,
                "labels_mean": sum(n for _, n, _ in self.shapes) / steps}

    def row_bits(self, run, sums, s):
        """Code bits of one row at fwd_in and at fwd_out, bwd_out."""
        if sums is None:
            raw = run["kind"] == "raw" or (run["kind"] == "aqsgd" and self.shapes[s][2])
            return [self.channels * (16 if raw else run["bits"])] * 2
        first = 16 * self.channels if run["kind_in"] == "raw" else sums[s, 0].item()
        return [first, sums[s, 1].item()]

    def step_bytes(self, run, s, widths):
        """Bytes by name of step s; and what all valid rows at all four sites would take."""
        rows, labels, warming = self.shapes[s]
        c, group, everything = self.channels, codecs.group_of(self.channels), 0
        sent = dict.fromkeys(SENT, 0)
        for name, site, n in (("fwd_in", 0, rows), ("fwd_out", 1, labels), ("bwd_out", 1, labels),
                              ("bwd_in", 0, rows)):
            raw = run["kind"] == "aqsgd" and warming
            kind = "raw" if raw else run["kind_in" if site == 0 else "kind"]
            everything += payload.tensor_bytes(
                rows, widths[site], payload.side_bytes(kind, rows, c, group))[0]
            if name == "bwd_in" and not run.get("exact"):
                continue
            sent[name], headers = payload.tensor_bytes(n, widths[site],
                                                       payload.side_bytes(kind, n, c, group))
            sent["headers"] += headers
        adaptive = run.get("mode") not in (None, "uniform")
        if adaptive and run["in_site"] and not run["exact"]:
            sent["signal"] = 4 * c
            sent["headers"] += payload.HEADER
        return sent, everything
