"""How far a run of training has got, by its time."""

import math
import time

import torch


class Clock:
    """Counts the steps and seconds of a run that lasts `seconds` in all, of which `spent` passed before; on a
    CPU in processor time, so that others' work on the machine costs no training.

    A run that was stopped goes on with the step and the seconds that its last checkpoint holds.
    """

    def __init__(
        self,
        device: torch.device,
        seconds: float,
        step: int = 0,
        spent: float = 0.0,
        save_every: float = 60,
    ) -> None:
        self.seconds, self.step, self.spent, self.save_every = seconds, step, spent, save_every
        self._now = time.process_time if device.type == "cpu" else time.monotonic
        self._begun = self._saved = self._now() - spent

    def running(self) -> bool:
        return self.spent < self.seconds

    def tick(self) -> None:
        """One step more is done."""
        self.step += 1
        self.spent = self._now() - self._begun

    def due(self) -> bool:
        """Whether a checkpoint should be written now: every `save_every` seconds, and at the end."""
        now = self._now()
        if self.running() and now - self._saved < self.save_every:
            return False
        self._saved = now
        return True

    def pace(self) -> float:
        """Factor of the learning rates: one cosine over the run, after a warm-up of 100 steps."""
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, self.spent / self.seconds)))
        return min(1.0, (self.step + 1) / 100) * (0.01 + 0.99 * cosine)
