"""How fast a run goes, for people."""

import time
from dataclasses import dataclass, field


@dataclass
class Pace:
    """Counts inputs.

    Args:
        total: inputs to do.
    """

    total: int
    done: int = 0
    failed: int = 0
    begun: float = field(default_factory=time.monotonic)

    def add(self, failed: bool) -> None:
        """Counts an input."""
        self.done += 1
        self.failed += failed

    def text(self) -> str:
        """Photos a second, time left, failures; empty before the first is done."""
        if not self.done:
            return ""
        rate = self.done / max(time.monotonic() - self.begun, 1e-9)
        left = readable((self.total - self.done) / rate)
        return f"{rate:.2g}/s, {left} left" + (f", {self.failed} failed" if self.failed else "")


def readable(seconds: float) -> str:
    """A time in its two largest units: 3 h 20 min."""
    days, rest = divmod(round(seconds), 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    units = ((days, "d"), (hours, "h"), (minutes, "min"), (rest, "s"))
    first = next((k for k, (number, _) in enumerate(units) if number), 3)
    return " ".join(f"{number} {unit}" for number, unit in units[first : first + 2])
