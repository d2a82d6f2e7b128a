"""The picture's values and keys in any attention network, by forward hooks on its projections."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from invrecon.core.editing.attention import Site
from invrecon.core.editing.injection import Rows
from invrecon.errors import ModelError
from invrecon.models.probing import PipelineDenoiser

_MIXING = re.compile(r"to_\w*v\w*|\w*v_proj")
"""Names of modules whose outputs carry values, those of text included: attention moves nothing else from
token to token."""
_THIRDS = ("to_qkv", "img_qkv_proj")
"""Projections to queries, keys and values, one after the other."""

Masks = dict[str, list[Tensor]]
"""By a module's name, for each of its calls in one evaluation: which tokens are the picture's, (B, N)."""


@dataclass(frozen=True)
class Projection:
    """Channels of a module's output that are a layer's values, or its keys.

    Args:
        site: the module's name with "keys" or "values", and the place of its layer.
    """

    module: nn.Module
    name: str
    channels: slice
    site: Site


class ValueHooks:
    """What the hooks of one network share.

    Attributes:
        watcher: all picture tokens go through it, sample by sample, while there is one.
        masks: of the denoiser that is being asked.
        calls: of each projection, while it is being asked.
    """

    def __init__(self) -> None:
        self.watcher: Rows | None = None
        self.masks: Masks = {}
        self.calls: dict[tuple[str, str], int] = {}

    def visit(self, projection: Projection, _module: nn.Module, args: Any, output: Tensor) -> Tensor | None:
        """The hook of a projection."""
        if self.watcher is None:
            return None
        key = projection.name, projection.site.name
        number = self.calls[key] = self.calls.get(key, -1) + 1
        masks = self.masks.get(projection.name, [])
        if number >= len(masks) or masks[number].shape != args[0].shape[:2]:
            raise ModelError(
                f"{projection.name} sees other tokens at some steps, so that values can't be injected: "
                "use --mode swap"
            )
        changed = None
        for item, mask in enumerate(masks[number]):
            rows = output[item, mask][:, projection.channels]
            given = self.watcher(projection.site, rows)
            if given is not rows:
                changed = output.clone() if changed is None else changed
                whole = changed[item, mask]
                whole[:, projection.channels] = given
                changed[item, mask] = whole
        return changed


@dataclass(frozen=True)
class LocatedDenoiser:
    """A denoiser whose picture tokens are known to the hooks: prompts of other lengths move them."""

    denoiser: PipelineDenoiser
    hooks: ValueHooks
    masks: Masks

    def __call__(self, latents: Tensor, timestep: float) -> Tensor:
        self.hooks.masks, self.hooks.calls = self.masks, {}
        return self.denoiser(latents, timestep)


@contextmanager
def hooked(
    network: nn.Module, source: PipelineDenoiser, target: PipelineDenoiser, keys: bool
) -> Iterator[tuple[ValueHooks, LocatedDenoiser, LocatedDenoiser]]:
    """Every projection of picture tokens to values asks the watcher, for as long as the block runs. A
    compiled network runs as it was written meanwhile.

    Args:
        network: that both denoisers ask.
        keys: whether those to keys do too.

    Yields:
        The hooks, and both denoisers with the places of the picture's tokens.

    Raises:
        ModelError: the network has no such projection, or its picture tokens can't be told from its text's.
    """
    with torch.compiler.set_stance("force_eager"):
        found = [picture_tokens(network, denoiser) for denoiser in (source, target)]
        hooks = ValueHooks()
        projections = [
            one for one in _projections(network, keys) if one.name in found[0] and one.name in found[1]
        ]
        if not projections:
            raise _nothing(network)
        handles = [
            one.module.register_forward_hook(partial(hooks.visit, one))
            for one in _placed(projections, list(found[0]))
        ]
        try:
            yield (
                hooks,
                LocatedDenoiser(source, hooks, found[0]),
                LocatedDenoiser(target, hooks, found[1]),
            )
        finally:
            for handle in handles:
                handle.remove()


def check_injectable(network: nn.Module) -> None:
    """Raises ModelError where a network has no projection to values that is known by its name."""
    if not any(True for _ in _projections(network, keys=False)):
        raise _nothing(network)


def _nothing(network: nn.Module) -> ModelError:
    return ModelError(
        f"{type(network).__name__} has no to_v of its own for the picture, so that values can't be injected: "
        "use --mode swap"
    )


@torch.no_grad()
def picture_tokens(network: nn.Module, denoiser: PipelineDenoiser) -> Masks:
    """The modules in running order whose input holds the picture's tokens, and where.

    The network is asked twice, about two pictures of noise, while all values are zero: attention then moves
    nothing from token to token, so that the tokens that differ are the picture's.

    Raises:
        ModelError: their number isn't that of h x w latents in patches of a power of two, so that something
            else was found.
    """
    shape = denoiser.forms.shape
    noise = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)).to(denoiser.forms.like.device)
    first, second = (_inputs(network, denoiser, one[None]) for one in noise)
    found: Masks = {}
    for name, inputs in first.items():
        masks = [(one != other).any(-1) for one, other in zip(inputs, second[name], strict=True)]
        if any(bool(mask.any()) for mask in masks):
            found[name] = masks
    counts = [int(count) for masks in found.values() for mask in masks for count in mask.sum(-1)]
    height, width = shape[-2:]
    possible = {-(-height // patch) * -(-width // patch) for patch in (1, 2, 4, 8, 16, 32, 64)}
    if not possible.issuperset(counts):
        raise ModelError(
            f"{type(network).__name__}'s picture tokens can't be told from its text's, so that values can't "
            "be injected: use --mode swap"
        )
    return found


def _inputs(network: nn.Module, denoiser: PipelineDenoiser, latents: Tensor) -> dict[str, list[Tensor]]:
    """What the modules that carry values are given, where it is tokens (B, N, D), while they return zero."""
    seen: dict[str, list[Tensor]] = {}

    def silence(name: str, _module: nn.Module, args: Any, output: Tensor) -> Tensor:
        if args[0].ndim == 3:
            seen.setdefault(name, []).append(args[0])
        return torch.zeros_like(output)

    handles = [
        module.register_forward_hook(partial(silence, name))
        for name, module in network.named_modules()
        if _MIXING.fullmatch(_last(name)) and not isinstance(module, nn.ModuleList)
    ]
    try:
        denoiser(latents, denoiser.timesteps[0])
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _projections(network: nn.Module, keys: bool) -> Iterator[Projection]:
    for name, module in network.named_modules():
        layer, kind = name.rpartition(".")[0], _last(name)
        parent = network.get_submodule(layer)
        values, key = _channels(kind, parent, module)
        if values:
            yield Projection(module, name, values, Site(f"{layer} values", False, 0.0))
        if keys and values and key:
            yield Projection(module, name, key, Site(f"{layer} keys", False, 0.0))
        beside = getattr(parent, "to_k", None) if keys and kind == "to_v" else None
        if isinstance(beside, nn.Module):
            yield Projection(beside, name, slice(None), Site(f"{layer} keys", False, 0.0))


def _channels(kind: str, parent: nn.Module, module: nn.Module) -> tuple[slice | None, slice | None]:
    """Of a module's output: those of values, and those of keys where it has them."""
    if kind == "to_v":
        return slice(None), None
    if kind in _THIRDS:
        width = int(getattr(module, "out_features", 0)) // 3
    elif kind == "to_qkv_mlp_proj":  # FLUX.2's blocks of one stream
        width = int(getattr(parent, "inner_dim", 0))
    else:
        return None, None
    return (slice(2 * width, 3 * width), slice(width, 2 * width)) if width else (None, None)


def _placed(projections: Sequence[Projection], order: Sequence[str]) -> list[Projection]:
    """With the places of their layers among those that are there, in running order."""
    names = [name for name in order if any(one.name == name for one in projections)]
    depths = {name: index / len(names) for index, name in enumerate(names)}
    return [replace(one, site=replace(one.site, depth=depths[one.name])) for one in projections]


def _last(name: str) -> str:
    return name.rpartition(".")[2]
