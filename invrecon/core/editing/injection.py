"""Value injection: the target's attention keeps its own weights and mixes the source's values.

RF-Solver-Edit (arXiv:2411.04746, "feature sharing") does that in rectified-flow transformers;
plug-and-play (arXiv:2211.12572) calls such a step injection, MasaCtrl (arXiv:2304.08465) takes keys along.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from invrecon.core.editing.attention import Site
from invrecon.core.editing.branches import Mode
from invrecon.errors import ModelError

Rows = Callable[[Site, Tensor], Tensor]
"""Stands in for a projection: given what one sample's picture tokens are projected to, (n, D), returns what
the layer goes on with, (n, D)."""


@dataclass
class Recorded:
    """Remembers projections of the source, sample by sample in running order, and gives them back so.

    One evaluation may hold several samples, as items of a batch or as calls of the network: under guidance,
    those with the prompt and with the negative one. The i-th of the target is given the i-th of the source; a
    source of one sample is given to all.
    """

    rows: dict[str, list[Tensor]] = field(default_factory=dict)
    given: dict[str, int] = field(default_factory=dict)

    def __call__(self, site: Site, projected: Tensor) -> Tensor:
        self.rows.setdefault(site.name, []).append(projected.clone())
        return projected

    def recall(self, site: Site) -> Tensor:
        """The source's projection for the sample of the target that is next in this layer."""
        rows, number = self.rows.get(site.name, []), self.given.get(site.name, 0)
        self.given[site.name] = number + 1
        if not rows or (number >= len(rows) > 1):
            raise _unlike(site.name)
        return rows[0 if len(rows) == 1 else number]

    def finish(self) -> None:
        """Raises ModelError where the target had another number of samples than the source."""
        for name, number in self.given.items():
            if number != len(self.rows[name]) > 1:
                raise _unlike(name)


def _unlike(name: str) -> ModelError:
    return ModelError(
        f"the network evaluates photo and edit differently in {name}, so that values can't be injected: "
        "use --mode swap, or --dtype float32 in half precision"
    )


@dataclass(frozen=True)
class Injection:
    """The picture's values come from the source, the target's text keeps its own:

        softmax(Q_target K_targetᵀ / sqrt(d)) V,   V = V_source at picture tokens, V_target at text tokens

    Args:
        from_step, to_step: the part of the steps in which it happens, in [0, 1].
        from_layer, to_layer: the part of the layers, in running order.
    """

    from_step: float
    to_step: float
    from_layer: float
    to_layer: float

    def remember(self) -> Recorded:
        return Recorded()

    def steers(self, progress: float) -> bool:
        return self.from_step <= progress < self.to_step

    def __call__(self, progress: float, site: Site, source: Tensor, target: Tensor) -> Tensor:
        return source.to(target) if self.from_layer <= site.depth < self.to_layer else target


def injection(from_step: float, to_step: float, from_layer: float, to_layer: float) -> Mode:
    """Value injection; see `Injection`."""
    return Mode(control=Injection(from_step, to_step, from_layer, to_layer))
