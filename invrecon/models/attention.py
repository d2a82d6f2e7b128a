"""A U-Net's attention layers, watched and steered through diffusers' attention-processor interface."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from invrecon.core.editing.attention import Heads, Site, Watcher
from invrecon.errors import ModelError


class WatchedAttention:
    """What the processors of one U-Net share: the watcher that all layers go through, while there is one."""

    def __init__(self) -> None:
        self.watcher: Watcher | None = None


@contextmanager
def watched(pipeline: Any) -> Iterator[WatchedAttention]:
    """Every attention layer of a pipeline's U-Net asks the watcher, for as long as the block runs; then all
    is as before. A compiled network runs as it was written meanwhile.

    Raises:
        ModelError: see `check_steerable`.
    """
    check_steerable(pipeline)
    unet = pipeline.unet
    before: dict[str, Any] = dict(unet.attn_processors)
    shared = WatchedAttention()
    unet.set_attn_processor({name: Processor(shared, name, depth) for name, depth in depths(before).items()})
    try:
        with torch.compiler.set_stance("force_eager"):
            yield shared
    finally:
        unet.set_attn_processor(before)


def check_steerable(pipeline: Any) -> None:
    """Raises ModelError where there is no U-Net, or where a layer mixes text and picture in one attention,
    which can't be told apart."""
    unet = getattr(pipeline, "unet", None)
    if unet is None:
        kind = type(pipeline).__name__
        raise ModelError(f"{kind} has no U-Net whose attention can be steered: use --mode inject or swap")
    before: dict[str, Any] = dict(unet.attn_processors)
    if any("IPAdapter" in type(one).__name__ for one in before.values()):
        raise ModelError("attention with an IP-Adapter can't be steered: use --mode inject or swap")
    for name in before:
        if unet.get_submodule(name.removesuffix(".processor")).added_kv_proj_dim is not None:
            raise ModelError(
                f"the layer {name.removesuffix('.processor')} attends to text and picture at once, which "
                "can't be steered: use --mode inject or swap"
            )


def can_steer(pipeline: Any) -> bool:
    """Whether `watched` takes a pipeline."""
    try:
        check_steerable(pipeline)
    except ModelError:
        return False
    return True


def depths(names: Iterable[str]) -> dict[str, float]:
    """The depth of each layer among those of its kind, `attn1` (self) or `attn2` (cross), in running order:
    down, middle, up.
    """
    found: dict[str, float] = {}
    for _, group in groupby(sorted(names, key=_kind), key=_kind):
        layers = sorted(group, key=lambda name: ("down", "mid", "up").index(name.split("_")[0]))
        found |= {name: index / len(layers) for index, name in enumerate(layers)}
    return found


def _kind(name: str) -> str:
    return name.split(".")[-2]


class Processor:
    """Attention as diffusers' `AttnProcessor2_0` computes it, but for the step from heads to output, which is
    the watcher's.
    """

    def __init__(self, shared: WatchedAttention, name: str, depth: float) -> None:
        self.shared, self.name, self.depth = shared, name, depth

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        **_unused: Any,
    ) -> Tensor:
        if attention_mask is not None:
            raise ModelError("attention under a mask can't be steered")
        residual = hidden_states
        states = attn.spatial_norm(hidden_states, temb) if attn.spatial_norm is not None else hidden_states
        if residual.ndim == 4:
            states = states.flatten(2).mT
        if attn.group_norm is not None:
            states = attn.group_norm(states.mT).mT
        site = Site(self.name, encoder_hidden_states is not None, self.depth)
        heads = _heads(attn, states, encoder_hidden_states)
        output = self.shared.watcher(site, heads) if self.shared.watcher else heads.attend()
        output = attn.to_out[1](attn.to_out[0](output.transpose(1, 2).flatten(2).to(heads.query.dtype)))
        if residual.ndim == 4:
            output = output.mT.reshape(residual.shape)
        return (output + residual if attn.residual_connection else output) / attn.rescale_output_factor


def _heads(attn: Any, states: Tensor, text: Tensor | None) -> Heads:
    if text is not None and attn.norm_cross:
        text = attn.norm_encoder_hidden_states(text)
    context = states if text is None else text
    query, key, value = (
        projected.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
        for projected in (attn.to_q(states), attn.to_k(context), attn.to_v(context))
    )
    if attn.norm_q is not None:
        query = attn.norm_q(query)
    if attn.norm_k is not None:
        key = attn.norm_k(key)
    return Heads(query, key, value)
