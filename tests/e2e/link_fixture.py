"""A network namespace whose loopback a token bucket (tc tbf) holds to a rate, for tests of what a
slow link does.  Needs root, ip and tc."""
import os
import shutil
import subprocess


class LinkSpace:
    """Opened by `with`; `usable` says whether this machine lets us."""

    def __init__(self, name: str):
        self.name = f"seam_{name}_{os.getpid()}"
        self.prefix = ["ip", "netns", "exec", self.name]
        self.usable = False

    def inside(self, *command, **kwargs):
        return subprocess.run([*self.prefix, *map(str, command)], check=True, **kwargs)

    def rate(self, rate: str) -> None:
        """The bucket is small, so that no burst passes by it."""
        self.inside("tc", "qdisc", "replace", "dev", "lo", "root", "tbf", "rate", rate, "burst",
                    "5kb", "latency", "400ms")

    def wrapper(self, folder, binary: str) -> str:
        """A program that runs `binary` inside."""
        path = folder / f"inside-{os.path.basename(binary)}"
        path.write_text(f'#!/bin/sh\nexec {" ".join(self.prefix)} {os.path.abspath(binary)} "$@"\n')
        path.chmod(0o755)
        return str(path)

    def __enter__(self):
        if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("tc"):
            return self
        if subprocess.run(["ip", "netns", "add", self.name], capture_output=True).returncode != 0:
            return self
        try:
            self.inside("ip", "link", "set", "lo", "mtu", "1500", "up", capture_output=True)
            self.rate("1gbit")
            self.usable = True
        except subprocess.CalledProcessError:
            pass
        return self

    def __exit__(self, *_):
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True,
                       check=self.usable)
