"""Methods by name."""

from collections.abc import Callable

from invrecon.core.peers.belm import o_belm
from invrecon.core.peers.edict import edict
from invrecon.core.peers.fixed_point import aidi_a, aidi_e, ddim, exact_dpm, fpi, renoise
from invrecon.core.peers.gradient import gnri, gradient
from invrecon.core.peers.one_evaluation import ife, uni_inv
from invrecon.core.peers.peer import Peer
from invrecon.core.peers.pivots import direct, lbo_biases, null_text

_MAKERS: dict[str, Callable[[int | None], Peer]] = {
    "DDIM": ddim,
    "IFE": ife,
    "Uni-Inv": uni_inv,
    "FPI": fpi,
    "AIDI-E": aidi_e,
    "AIDI-A": aidi_a,
    "ReNoise": renoise,
    "GNRI": gnri,
    "ExactDPM": exact_dpm,
    "gradient": gradient,
    "EDICT": edict,
    "O-BELM": o_belm,
    "null-text": null_text,
    "Direct": direct,
    "LBO+biases": lbo_biases,
}

PEERS = tuple(_MAKERS)
"""Names, track A before track B."""

BY_LEVELS = ("IFE", "gradient", "O-BELM")
"""Those whose formulas are in levels with a² + s² = 1, which flows don't have."""


def make_peer(name: str, evaluations: int | None = None) -> Peer:
    """A method of inversion.

    Args:
        name: one of `PEERS`.
        evaluations: budget of network evaluations an inversion step, a backward pass counted as two, >= 1:
            the method does as many iterations as fit, and at least what it can't do without (DDIM, IFE and
            O-BELM always take 1, EDICT and Direct 2; LBO+biases takes 2; a gradient method takes one step of
            gradient: gradient 3, GNRI 4, null-text 6). None means the published settings.

    Raises:
        ValueError: the budget is below 1.
    """
    if evaluations is not None and evaluations < 1:
        raise ValueError(f"a budget of {evaluations} evaluations is less than one")
    return _MAKERS[name](evaluations)
