"""A mask that is painted over a photo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image, ImageChops

from invrecon.errors import UsageError
from invrecon.image import load_photo, save_png


def painting_field(name: str) -> Any:
    """A field that shows a photo and takes paint."""
    return gr.ImageEditor(
        label="Paint",
        type="pil",
        image_mode="RGBA",
        format="png",
        sources=(),
        transforms=(),
        layers=False,
        buttons=[],
        brush=gr.Brush(default_size=24, colors=["#ff2d95"], color_mode="fixed"),
        visible=False,
        elem_id=name,
    )


def on_canvas(rgb: Image.Image) -> dict[str, Any]:
    """What the field holds to show a photo without paint."""
    return {"background": rgb, "layers": [], "composite": None}


def save_mask(painting: dict[str, Any] | None, photo: Path, path: Path) -> None:
    """Writes the paint as a mask of the photo's size, white where there is paint.

    Raises:
        InputError: the photo can't be used.
        UsageError: there is no paint.
    """
    mask = Image.new("L", load_photo(photo).rgb.size)
    for layer in (painting or {}).get("layers", ()):
        paint = layer.getchannel("A").resize(mask.size, Image.Resampling.BILINEAR)
        mask = ImageChops.lighter(mask, paint.point(lambda alpha: 255 * (alpha > 127)))
    if not mask.getbbox():
        raise UsageError("nothing is painted: paint over the part of the photo that may change")
    save_png(mask, path)
