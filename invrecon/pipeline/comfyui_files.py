"""LoRAs and learnt words of a seed, as ComfyUI takes them."""

import re
from pathlib import PurePath
from typing import Any


def loras(header: dict[str, Any]) -> list[dict[str, Any]]:
    """The inputs of a LoraLoader for each LoRA of a seed file's header, in their order, but for what they are
    linked to.

    Raises:
        ValueError: ComfyUI can't do the same; the text says why.
    """
    found = []
    for name, one in _attachments(header).items():
        if not isinstance(one, dict) or "file" not in one:
            raise ValueError(f"{name} is attached to its model; merge it first")
        if "word" in one:
            continue
        scales = one.get("scales") or {}
        encoders = {scale for part, scale in scales.items() if part.startswith("text_encoder")} or {1.0}
        if None in scales.values() or len(encoders) > 1:
            raise ValueError(
                f"ComfyUI doesn't read the alphas of {one['file']}, which its layers don't share"
            )
        [encoder], unet = encoders, scales.get("unet", scales.get("transformer", 1.0))
        found.append(
            {
                "lora_name": one["file"],
                "strength_model": float(one["weight"] * unet),
                "strength_clip": float(one["weight"] * encoder),
            }
        )
    return found


def with_names(prompt: str, header: dict[str, Any]) -> str:
    """A prompt with its learnt words as ComfyUI takes them, `embedding:FILE`.

    Raises:
        ValueError: ComfyUI would take them for something else; the text says why.
    """
    for one in _attachments(header).values():
        if not isinstance(one, dict) or "word" not in one or one["word"] not in prompt:
            continue
        name = PurePath(one["file"]).stem
        if re.search(r"\s", name):
            raise ValueError(
                f"ComfyUI takes no spaces in {one['file']}: rename it, and invert the photo again"
            )
        second = header["identity"]["configuration"].get("text_encoder_2", {})
        if second.get("eos_token_id") == 2:
            raise ValueError(
                f"diffusers takes the pooled embedding of a prompt at its learnt word {one['word']}, and "
                "ComfyUI at its end"
            )
        parts = re.split(rf" *{re.escape(one['word'])} *", prompt)
        prompt = f" embedding:{name} ".join(parts).strip()
    return prompt


def _attachments(header: dict[str, Any]) -> dict[str, Any]:
    attachments: dict[str, Any] = header.get("identity", {}).get("attachments", {})
    return attachments
