"""How exactly to solve each step of an inversion where only so many network evaluations may be spent in
all.
"""

import math

from invrecon.core.schedule import Schedule


class EvaluationBudget:
    """Shares evaluations among the steps so that each adds the same error e to the regenerated latents.

    Where the denoiser takes all it sees for noise, which is the worst that a good one does, its Jacobian is 1
    / s_t, and

        f(z) = (z_s - B eps(z, t)) / A      contracts by      q = -B / (A s_t) = 1 - s_s / (A s_t)

    an evaluation. From a first residual r the error e a_s is thus reached in  n(e) = ln(r / (e a_s)) / ln(1 /
    q)  evaluations, and e follows from  Σ n(e) = what is left.  It is computed anew after every evaluation,
    so that a wrong estimate corrects itself.

    Args:
        schedule: the sampler's steps, T of them.
        first: r T², as predicted starts have it.
    """

    def __init__(self, schedule: Schedule, first: float = 4.0) -> None:
        self._signal = schedule.signal[::-1]  # from image to noise, as all below
        self._costs: list[float] = []  # 1 / ln(1 / q): evaluations for each factor of e
        steps = zip(schedule.A[::-1], schedule.B[::-1], schedule.times[::-1], strict=True)
        for A, B, s in steps:
            q = min(max(-B / (A * s), 0.05), 0.9) if s > 0 else 0.9
            self._costs.append(-1 / math.log(q))
        self._needs = [
            cost * math.log(first / len(schedule) ** 2 / signal)
            for cost, signal in zip(self._costs, self._signal, strict=True)
        ]

    def tolerance(self, step: int, left: float, taken: int) -> float:
        """The relative residual at which a step leaves the rest of the evaluations to later ones; 0 for the
        last step.

        Args:
            step: its number, counted from the image.
            left: evaluations that were left before it.
            taken: evaluations by it so far.
        """
        later = slice(step + 1, None)
        if not self._costs[later]:
            return 0.0
        excess = (sum(self._needs[later]) - left + taken) / sum(self._costs[later])
        return self._signal[step] * math.exp(min(0.0, excess))
