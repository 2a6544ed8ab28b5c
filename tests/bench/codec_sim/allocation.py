"""Who decides the widths of the affine grid: one Allocation for all runs of a fleet that use it.

Modes of a run (SPEC 3.1):
  uniform     every channel b*(step): fixed widths where start = target (affine), else a schedule
              without any allocation among channels
  waterfill   b_c = b*(step) + 1/2 log2(w_c R_c^2) - m, clipped to the range and centred again
  gates       the paper's gates; widths start at `start` everywhere
  gates_wf    gates set to the waterfill solution at the target once some gradients were seen;
              uniform widths at the target until then
b* falls from start to target, linearly over `ramp` steps.  Widths decided after step s are in force
from step s + 2, and no others are decided before that (alloc_lag_steps = 2, WIRE.md section 4).
"""
import torch

LAG, AVERAGE, SEEN = 2, 0.9, 8
BETA1, BETA2, EPS, LOGIT_MAX = 0.9, 0.999, 1e-8, 12.0
RATE_AFTER = 0.3  # of the gates' learning rate once the target was reached
RANGES = {4: (1.0, 16.0, 8.0), 3: (1.0, 8.0, 6.0)}  # the paper's presets: low, high, start


def integer_widths(bits, low, high):
    """floor, then the largest fractions (ties: lowest index) up to round(sum); (runs, channels)."""
    bits = torch.minimum(torch.maximum(bits.float(), low.ceil().float()), high.floor().float())
    bits = bits.double()
    base = bits.floor()
    raised = bits.sum(dim=1, keepdim=True).round() - base.sum(dim=1, keepdim=True)
    order = torch.argsort(base - bits, dim=1, stable=True)
    rank = torch.empty_like(order)
    rank.scatter_(1, order, torch.arange(bits.shape[1], device=bits.device).expand_as(order))
    return (base + (rank < raised)).float()


class Gates:
    """tests/oracle/wire_numpy's Gates for several runs, in f64 throughout."""

    def __init__(self, channels, low, high, start):
        self.low, self.high = low, high
        self.q = torch.log((start - low) / (high - start)).expand(-1, channels).clone()
        self.m, self.v = torch.zeros_like(self.q), torch.zeros_like(self.q)
        self.steps = torch.zeros_like(low)

    def bits(self):
        return self.low + (self.high - self.low) * torch.sigmoid(self.q)

    def set_bits(self, bits, where):
        inside = torch.minimum(torch.maximum(bits, self.low + 1e-3), self.high - 1e-3)
        q = torch.log((inside - self.low) / (self.high - inside))
        self.q = torch.where(where, q, self.q)
        for state in (self.m, self.v, self.steps):
            state.masked_fill_(where.expand_as(state), 0.0)

    def step(self, db, rate, pressure):
        """pressure: beta * dL_bits/db of each channel, 0 while the bits loss is off."""
        b = self.bits()
        db = torch.where(torch.isfinite(db), db, torch.zeros_like(db)) + pressure
        dq = db * (b - self.low) * (self.high - b) / (self.high - self.low)
        self.steps += 1
        self.m = BETA1 * self.m + (1.0 - BETA1) * dq
        self.v = BETA2 * self.v + (1.0 - BETA2) * dq * dq
        update = self.m / (1.0 - BETA1 ** self.steps)
        update = update / ((self.v / (1.0 - BETA2 ** self.steps)).sqrt() + EPS)
        self.q = (self.q - rate * update).clamp(-LOGIT_MAX, LOGIT_MAX)


class Allocation:
    def __init__(self, runs, channels, steps, device):
        """runs: dicts with mode, bits (target), start, ramp, loss, beta, in_site."""
        def column(values):
            return torch.tensor(values, dtype=torch.float64, device=device).view(-1, 1)

        self.channels, self.device, self.count = channels, device, len(runs)
        self.low = column([RANGES[r["bits"]][0] for r in runs])
        self.high = column([RANGES[r["bits"]][1] for r in runs])
        self.target = column([r["bits"] for r in runs])
        self.start = column([r["start"] for r in runs])
        self.ramp = column([max(r["ramp"] * steps, 1.0) for r in runs])
        self.beta = column([r["beta"] for r in runs])
        self.l1 = column([r["loss"] == "l1" for r in runs]).bool()
        self.has_in = column([r["in_site"] for r in runs])  # 0: no gates at fwd_in (dictionary)
        self.mode = {m: column([r["mode"] == m for r in runs]).bool()
                     for m in ("uniform", "waterfill", "gates", "gates_wf")}
        self.rate = column([1e-2] * len(runs))
        self.reached = torch.zeros_like(self.low).bool()
        self.active = torch.ones_like(self.reached)
        self.gates = [Gates(channels, self.low, self.high, self.start) for _ in range(2)]
        self.squares, self.spans = [None, None], [None, None]
        self.share = None  # of all values, at each forward site, fixed by the first step
        self.seen, self.pending = 0, None
        ones = torch.ones(1, channels, dtype=torch.float64, device=device)
        self.widths = [integer_widths(self.start * ones, self.low, self.high) for _ in range(2)]

    def weigh(self, rows_in, rows_out):
        if self.share is None:
            total = rows_in * self.has_in + rows_out
            self.share = [rows_in * self.has_in / total, rows_out / total]

    def observe(self, site, squares, rows, span):
        """squares: sum over rows of g^2, (runs, channels); span: hi - lo."""
        for store, value in ((self.squares, squares.double() / rows), (self.spans, span.double())):
            value = torch.nan_to_num(value, 0.0, 0.0, 0.0)
            old = store[site]
            store[site] = value if old is None else AVERAGE * old + (1.0 - AVERAGE) * value

    def waterfill(self, mean):
        """Real widths of both sites whose mean weighted by values is `mean`."""
        term = [0.5 * (w * r * r).clamp(min=1e-60).log2() for w, r in zip(self.squares, self.spans)]

        def clipped(shift):
            return [torch.minimum(torch.maximum(t + shift, self.low), self.high) for t in term]

        m = sum(s * t.mean(dim=1, keepdim=True) for s, t in zip(self.share, term))
        below, above = mean - m - 64.0, mean - m + 64.0
        for _ in range(40):  # the clipped mean rises with the shift
            middle = 0.5 * (below + above)
            high = sum(s * b.mean(dim=1, keepdim=True)
                       for s, b in zip(self.share, clipped(middle))) > mean
            above = torch.where(high, middle, above)
            below = torch.where(high, below, middle)
        return clipped(0.5 * (below + above))

    def after_step(self, step, signals):
        """Gates step with dL/db of both sites, then the arbiter, then perhaps new widths."""
        self.seen += 1
        self.gates_step(signals)
        if self.seen == SEEN and bool(self.mode["gates_wf"].any()):
            for gates, bits in zip(self.gates, self.waterfill(self.target)):
                gates.set_bits(bits, self.mode["gates_wf"])
        if self.pending is not None:
            self.widths, self.pending = self.pending, None
        if step % LAG == 0:
            self.pending = self.decide(step + LAG)

    def gates_step(self, signals):
        rate = torch.where(self.reached, RATE_AFTER * self.rate, self.rate)
        means = []
        for site, gates in enumerate(self.gates):
            b = gates.bits()
            # L1 is weighted by the site's share of values, and as strong as L2 at the target.
            l1 = 2.0 * self.target * (2.0 * self.share[site]) + torch.zeros_like(b)
            pressure = self.beta * torch.where(self.l1, l1, 2.0 * b) / self.channels
            gates.step(signals[site], rate, torch.where(self.active, pressure, 0.0 * b))
            means.append(gates.bits().sum(dim=1, keepdim=True).round() / self.channels)
        mean = sum(s * m for s, m in zip(self.share, means))
        self.reached = self.reached | (mean <= self.target)
        self.active = mean > self.target

    def decide(self, step):
        fallen = self.start - (self.start - self.target) * step / self.ramp
        mean = torch.maximum(fallen, self.target)
        water = self.waterfill(mean)
        gated = self.mode["gates"] | (self.mode["gates_wf"] & (self.seen >= SEEN))
        widths = []
        for site in range(2):
            bits = mean.expand(-1, self.channels)
            bits = torch.where(self.mode["waterfill"], water[site], bits)
            bits = torch.where(gated, self.gates[site].bits(), bits)
            widths.append(integer_widths(bits, self.low, self.high))
        return widths
