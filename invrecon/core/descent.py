"""Descent on image latents, through the decoder and back."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from invrecon.core.objective import Decode, Score, squared_error

Proceed = Callable[[int, float, Tensor], bool]
"""(evaluations so far, the lowest value of the last ten, the latents there) -> whether to go on."""

BLOCK = 10  # evaluations after which `descend` asks whether to go on


def descend(objective: Callable[[Tensor], Tensor], start: Tensor, proceed: Proceed) -> tuple[Tensor, int]:
    """Minimises by L-BFGS (torch's, strong Wolfe).

    Args:
        objective: latents -> scalar, differentiable. It may change a little between blocks of `BLOCK`
            evaluations.
        start: latents, (1, C, h, w).
        proceed: asked after each block.

    Returns:
        The lowest point of the last block, and how many evaluations of the objective were made.
    """
    # torch's first trial step has an L1 norm of 1: in these units it moves latents by 5 % of their deviation
    unit = 0.05 * start.std() * start.numel()
    change = torch.zeros_like(start, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [change],
        max_iter=1000,
        max_eval=BLOCK,
        tolerance_grad=0,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )
    lowest, best, steps = math.inf, start, 0

    def closure() -> Tensor:
        nonlocal lowest, best, steps
        with torch.enable_grad():
            latents = start + unit * change
            value = objective(latents)
            change.grad = torch.autograd.grad(value, change)[0].contiguous()
        steps += 1
        if value.item() < lowest:
            lowest, best = value.item(), latents.detach()
        return value.detach()

    while True:
        lowest = math.inf
        optimizer.step(closure)
        if not proceed(steps, lowest, best):
            return best, steps


def decoder_ceiling(
    decode: Decode, encoded: Tensor, photo: Tensor, score: Score, max_steps: int = 400
) -> float:
    """PSNR in dB of the best picture that the decoder can give:  min_z mean((D(z) - x)²), from E(x) until it
    stops gaining.

    It has stopped when 20 decoder steps gain less than 0.02 dB, or after `max_steps`. No seed need lead to
    that z.
    """
    values: list[float] = []

    def proceed(step: int, value: float, _latents: Tensor) -> bool:
        values.append(10 * math.log10(max(value, 1e-30)))
        return step < max_steps and (len(values) < 3 or values[-3] - values[-1] > 0.02)

    best, _ = descend(lambda latents: squared_error(decode(latents), photo), encoded, proceed)
    return score(best)
