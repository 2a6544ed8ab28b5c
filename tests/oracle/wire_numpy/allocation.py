"""What the peer of a site's owner answers to its AllocPropose messages: proto/WIRE.md 4 and 7.1."""
from . import require
from .bits import alloc_hash


class Receiver:
    """Versions of one site with gates; widths that are accepted lie in low..high."""

    def __init__(self, channels, low, high):
        self.channels, self.low, self.high = channels, low, high
        self.version_last, self.accepted, self.refused = 1, {}, {}

    def judge(self, propose, step_now):
        """Of an AllocPropose as messages.read gives it: an ACK, or Refused, of which ARG is a NACK.
        step_now: the latest step that has begun."""
        version, content = propose["version"], (propose["effective_step"], propose["hash"])
        if version <= self.version_last:
            self._judge_again(version, content)
            return
        require(version == self.version_last + 1, "version", f"{version}", "STATE")
        require(propose["effective_step"] > step_now, "effective_step", "not in the future", "STATE")
        require(all(step <= step_now for step, _ in self.accepted.values()), "version",
                "another is not yet in force", "STATE")
        self.version_last = version
        self.refused = {version: content}
        self._check(propose)
        self.refused, self.accepted = {}, {version: content}

    def _judge_again(self, version, content):
        refused = self.refused.get(version)
        require(refused is None or refused[1] != content[1], "version", "refused before", "ARG")
        known = self.accepted.get(version, refused)
        require(known is not None, "version", f"{version}", "STATE")
        require(known == content and refused is None, "version", "other content", "CONFLICT")

    def _check(self, propose):
        widths = propose["widths"]
        require(len(widths) == self.channels, "widths", f"{len(widths)} channels", "ARG")
        for c, width in enumerate(widths):
            require(self.low <= width <= self.high, f"widths[{c}]", f"{width}", "ARG")
        require(alloc_hash(widths) == propose["hash"], "hash", "not that of the widths", "ARG")
