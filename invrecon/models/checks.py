"""Whether the parts of a pipeline are fit for use, and fit together: values that came from files, checked
before any work."""

import json
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from invrecon.errors import ModelError
from invrecon.models.identity import networks_of
from invrecon.models.tokenizers import tokenizers_of

_UNFIT = {  # autoencoders that don't give a picture back from latents that can be found
    "VQModel": "rounds latents to a code book",
    "ConsistencyDecoderVAE": "draws noise when it decodes",
}
_BETWEEN = {  # settings of schedulers that must be finite numbers in a range
    "num_train_timesteps": (1, 100_000),
    "beta_start": (0, 1),
    "beta_end": (0, 1),
    "shift": (1e-6, 1e6),
    "steps_offset": (0, 1000),
}


def check_parts(pipeline: Any) -> None:
    """Checks networks, autoencoder and tokenizers of a pipeline in memory; tokenizers that know no length
    get their encoder's.

    Raises:
        ModelError: weights aren't finite, or parts don't fit together; the text names them.
    """
    parts = networks_of(pipeline)
    for name, module in parts.items():
        check_finite(module, name)
    check_autoencoder(pipeline.vae)
    tokenizers = tokenizers_of(pipeline)
    encoders = {name: module for name, module in parts.items() if name.startswith("text_encoder")}
    for name, encoder in encoders.items():
        tokenizer = name.replace("text_encoder", "tokenizer")
        if hasattr(pipeline, tokenizer):
            _check_tokenizer(tokenizers.get(tokenizer), tokenizer, encoder)
    if "unet" in parts:
        _check_width(parts["unet"], list(encoders.values()))
    for name in parts.keys() & {"unet", "transformer"}:
        _check_channels(name, parts[name], pipeline.vae)


def check_finite(module: nn.Module, part: str) -> None:
    """Raises ModelError where a weight is not a finite number."""
    for name, value in module.state_dict().items():
        if value.is_meta:
            raise ModelError(f"its {part} lacks weights ({name}): the files aren't whole; fetch them again")
        if not is_finite(value):
            half = value.dtype == torch.float16
            cure = "use --dtype float32 or bfloat16" if half else "the file is damaged; fetch it again"
            raise ModelError(f"its {part} has weights that aren't finite ({name}): {cure}")


def is_finite(value: Tensor) -> bool:
    """Whether all numbers of a tensor of any type are finite; their sum might not be."""
    if not value.numel() or not (value.is_floating_point() or value.is_complex()):
        return True
    parts = torch.view_as_real(value) if value.is_complex() else value
    ends = (parts if parts.element_size() > 1 else parts.half()).aminmax()  # which knows no 8 bits
    return all(math.isfinite(end.item()) for end in ends)


def check_values(values: Tensor, part: str, cure: str) -> None:
    """Raises ModelError where a part gave values that aren't finite.

    Args:
        part: of which checkpoint, "mini: its unet"; `cure` is what to do.
    """
    if not values.isfinite().all():
        raise ModelError(f"{part} gives values that aren't finite: {cure}")


def check_autoencoder(vae: Any) -> None:
    """Raises ModelError for a part that can't be used as one, or of which the scale of latents can't be
    used."""
    kind, config = type(vae).__name__, vae.config
    if kind in _UNFIT or not (hasattr(vae, "encode") and hasattr(vae, "decode")):
        why = _UNFIT.get(kind, "is no autoencoder")
        raise ModelError(f"its vae is a {kind}, which {why}: name another with --vae")
    scales = {"scaling_factor": config.get("scaling_factor", 1.0), "shift_factor": config.get("shift_factor")}
    for name, value in scales.items():
        unsaid = value is None and name == "shift_factor"
        if not unsaid and (not _is_number(value) or (name == "scaling_factor" and value <= 0)):
            raise ModelError(f"its vae has the {name} {value!r:.40}: set it in its config.json")
    channels = config.get("latent_channels", config.get("z_dim"))
    for name in ("latents_mean", "latents_std"):
        values = config.get(name)
        listed = isinstance(values, list | tuple) and len(values) == channels
        if values is not None and not (listed and all(map(_is_number, values))):
            raise ModelError(f"its vae has not one finite {name} for each of {channels} channels")


def check_scheduler(config: Mapping[str, Any]) -> None:
    """Raises ModelError where a scheduler's configuration is no noise schedule; the text, "has ...", names
    the setting."""
    for name, (low, high) in _BETWEEN.items():
        value = config.get(name)
        if value is not None and not (_is_number(value) and low <= value <= high):
            raise ModelError(
                f"has the {name} {value!r:.40}, not a number from {low} to {high}: set it in "
                "scheduler_config.json"
            )
    if not isinstance(levels := config.get("num_train_timesteps") or 1000, int):
        raise ModelError(
            f"has the num_train_timesteps {levels!r:.40}, not a whole number: set it in scheduler_config.json"
        )
    betas = config.get("trained_betas")
    if betas is not None and not (
        isinstance(betas, list) and all(_is_number(beta) and 0 <= beta <= 1 for beta in betas)
    ):
        raise ModelError(
            "has trained_betas that aren't numbers from 0 to 1: set them in scheduler_config.json"
        )
    if betas is not None and len(betas) != levels:
        raise ModelError(
            f"has {len(betas)} trained_betas for {levels} num_train_timesteps: set them in "
            "scheduler_config.json"
        )


def _check_tokenizer(tokenizer: Any, name: str, encoder: Any) -> None:
    if tokenizer is None:
        raise ModelError(f"it has no {name}, which its text encoder can't do without")
    positions, length = getattr(encoder.config, "max_position_embeddings", None), tokenizer.model_max_length
    if positions and not (_is_number(length) and 2 < length <= positions):
        tokenizer.model_max_length = positions  # its file names none, or one that the encoder can't take
    elif not _is_number(length):
        raise ModelError(
            f"its {name} has the model_max_length {length!r:.40}: set it in tokenizer_config.json"
        )
    known = getattr(encoder.config.get_text_config(), "vocab_size", None)
    if isinstance(known, int) and len(tokenizer) > known:
        raise ModelError(
            f"its {name} knows {len(tokenizer)} tokens, its text encoder {known}: they don't belong together"
        )
    if isinstance(known, int) and len(tokenizer) < known / 2:  # libraries begin an empty one
        raise ModelError(
            f"its {name} knows {len(tokenizer)} tokens, its text encoder {known}: its vocabulary is missing; "
            "fetch its folder again"
        )
    if missing := _missing_merges(tokenizer):
        raise ModelError(
            f"its {name} lacks {missing} of the merges that its vocabulary is made of: fetch its folder again"
        )


def _missing_merges(tokenizer: Any) -> int:
    """How many tokens of CLIP's byte pair encoding nothing leads to: but for bytes and special tokens, each
    is a merge of two. Small vocabularies, made up for tests, aren't looked at."""
    if "CLIPTokenizer" not in type(tokenizer).__name__ or len(tokenizer) < 2000:
        return 0
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    made = {"".join(merge) for merge in model["merges"]}
    special = set(tokenizer.all_special_tokens)
    words = (token for token in model["vocab"] if len(token.removesuffix("</w>")) > 1)
    return sum(token not in made and token not in special for token in words)


def _check_width(unet: Any, encoders: list[Any]) -> None:
    """A U-Net attends to the embeddings of all encoders side by side, unless it projects them first."""
    takes = unet.config.get("cross_attention_dim")
    gives = sum(encoder.config.hidden_size for encoder in encoders)
    if isinstance(takes, int) and takes != gives and not unet.config.get("encoder_hid_dim"):
        raise ModelError(
            f"its unet takes text embeddings of width {takes}, its text encoders give {gives}: they "
            "don't belong together"
        )


def _check_channels(name: str, network: Any, vae: Any) -> None:
    """A network takes the latents alone; a transformer may take them in patches of 2 x 2."""
    takes, there = network.config.get("in_channels"), vae.config.get("latent_channels")
    if not (isinstance(takes, int) and isinstance(there, int)):
        return
    if takes != there if name == "unet" else takes > 4 * there:
        raise ModelError(
            f"its {name} takes {takes} channels, not the {there} of the latents alone (an inpainting "
            "checkpoint?)"
        )


def _is_number(value: object) -> bool:
    """Whether it is one that a tensor can be multiplied by."""
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < 2**63
    return isinstance(value, float) and math.isfinite(value)
