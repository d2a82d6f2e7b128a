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
    told = [one for one in _attachments(header).values() if isinstance(one, dict) and "word" in one]
    words = {one["word"]: PurePath(one["file"]).stem for one in told}
    pattern = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
    if not words or not re.search(pattern, prompt, re.IGNORECASE):
        return prompt
    pieces = re.split(rf" *({pattern}) *", prompt)  # between the words, and at each second place a word
    if re.search(pattern, "\n".join(pieces[::2]), re.IGNORECASE):
        raise ValueError("its prompt has a learnt word in other capitals")
    names = [words[word] for word in pieces[1::2]]
    if odd := next((name for name in names if re.search(r"\s", name)), None):
        raise ValueError(f"ComfyUI takes no spaces in {odd}: rename the file, and invert the photo again")
    if header["identity"]["configuration"].get("text_encoder_2", {}).get("eos_token_id") == 2:
        raise ValueError(
            f"diffusers takes the pooled embedding of a prompt at its learnt word {pieces[1]}, and ComfyUI "
            "at its end"
        )
    pieces[1::2] = [f" embedding:{name} " for name in names]
    return "".join(pieces).strip()


def _attachments(header: dict[str, Any]) -> dict[str, Any]:
    attachments: dict[str, Any] = header.get("identity", {}).get("attachments", {})
    return attachments
