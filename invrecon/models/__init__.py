"""Checkpoints: the only room that knows diffusers. What leaves it is a `Model` of plain tensors and
functions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from typing_extensions import Unpack

if TYPE_CHECKING:
    from invrecon.models.model import Model


class Placement(TypedDict, total=False):
    """How the parts of a checkpoint work.

    Args:
        offload: "model" or "sequential" keeps parts on the CPU while they don't work (diffusers' own
            offload; CUDA only); "none" doesn't.
        tiling: whether the autoencoder may work in tiles, where a picture as a whole doesn't fit into the
            free memory; they cost several dB (`models.tiling`).
        compiled: whether torch.compile makes a program of the network, at its first use and again for
            another shape.
    """

    offload: str
    tiling: bool
    compiled: bool


def bundled_models() -> list[str]:
    """Names of the checkpoints that come with the package."""
    from invrecon.models.cards import cards

    return [name for name, card in cards().items() if not card.hub]


def model_folder(name: str, revision: str = "", variant: str = "", base: str = "") -> Path:
    """The folder of a checkpoint, or the file of one in a single file; a hub id is fetched as needed.

    Raises:
        ModelError: it isn't there.
    """
    from invrecon.models.locate import locate

    return locate(name, revision, variant, base).path


def model_contents(
    name: str,
    revision: str = "",
    variant: str = "",
    base: str = "",
    vae: str = "",
    lora: Sequence[str] = (),
    embedding: Sequence[str] = (),
) -> str:
    """SHA-256 over all files that a checkpoint is loaded from, and those loaded onto it; a hub id is
    fetched as needed.

    Raises:
        ModelError: it isn't there, or incomplete.
    """
    from invrecon.models.identity import contents  # neither imports diffusers, which takes seconds
    from invrecon.models.locate import locate

    return contents(locate(name, revision, variant, base, vae, lora, embedding))


def learnt_words(embedding: Sequence[str]) -> dict[str, str]:
    """The word that prompts use for each of these files.

    Raises:
        ModelError: one isn't there, or is no learnt word.
    """
    from invrecon.models.quiet import quiet

    with quiet():
        from invrecon.models.attachments import find

    return {str(one.path): one.noted["word"] for one in find((), embedding)}


def load_model(
    name: str = "mini",
    device: str = "auto",
    dtype: str = "float32",
    *,
    revision: str = "",
    variant: str = "",
    base: str = "",
    vae: str = "",
    lora: Sequence[str] = (),
    embedding: Sequence[str] = (),
    **placement: Unpack[Placement],
) -> Model:
    """Loads a checkpoint. The network is asked only where a hub id, or the card of one, is named.

    Args:
        name: a card's name (`invrecon models list`), a diffusers folder, a .safetensors file, or a hub id.
        device: "auto" takes CUDA, then Apple's MPS, then the CPU.
        dtype: of the networks: "float32", "float16", "bfloat16", or "auto", which takes bfloat16 on CUDA
            (float16 on older cards) and float32 elsewhere. Latents and autoencoder stay float32.
        revision, variant: of a hub id; variant of a folder's weights too.
        base: for a single file, the diffusers folder or hub id that its configuration, tokenizers and
            missing parts come from.
        vae: a folder or .safetensors file with another autoencoder; "" for the checkpoint's own.
        lora: LoRAs to load onto it, each "FILE[:WEIGHT]".
        embedding: files of learnt words to load onto it; prompts use a word by its name.
        placement: see `Placement`.

    On CUDA float32 products are taken in TF32, for the whole process: ten bits of mantissa, relative errors
    of about 5e-4 each. The way up and the way down share them; a program without TF32 sees a slightly
    different network. After loading, `torch.set_float32_matmul_precision("highest")` takes it back for
    products, `torch.backends.cudnn.allow_tf32 = False` for convolutions, which torch itself lets have it.

    Returns:
        Its encoder, decoder, denoiser and schedules, ready on the device.

    Raises:
        ModelError: it isn't there, is damaged, isn't safetensors, or can't be inverted.
    """
    from invrecon.models.quiet import quiet

    with quiet():
        from invrecon.models.load import load
        from invrecon.models.locate import locate

    return load(locate(name, revision, variant, base, vae, lora, embedding), device, dtype, **placement)
