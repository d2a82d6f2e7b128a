"""Pictures to files: nothing that a photo's file says of place, time, camera or persons."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from invrecon.image.about import chunks_of
from invrecon.writing import replacing


def save_png(
    image: Image.Image, path: Path, overwrite: bool = True, about: Mapping[str, Any] | None = None
) -> None:
    """Writes `image` to `path` as PNG, whole or not at all; folders above are made as needed.

    Args:
        about: what the file says of the picture, as `pipeline.about` makes it; None for pixels alone.

    Raises InvreconError where the disk doesn't take it, or where it exists and isn't to be overwritten.
    """
    with replacing(path, overwrite) as partial:
        _pixels(image).save(partial, format="PNG", pnginfo=chunks_of(about) if about else None)


def save_gif(
    frames: Sequence[Image.Image], path: Path, milliseconds: int = 120, *, overwrite: bool = True
) -> None:
    """Writes pictures of one size as an animation that runs there and back for ever, whole or not at all.

    Raises InvreconError where the disk doesn't take it, or where it exists and isn't to be overwritten.
    """
    first, *others = [_pixels(frame) for frame in (*frames, *frames[-2:0:-1])]
    with replacing(path, overwrite) as partial:
        first.save(partial, format="GIF", save_all=True, append_images=others, duration=milliseconds, loop=0)


def _pixels(image: Image.Image) -> Image.Image:
    """A copy without metadata, some of which Pillow's writers take from `info`."""
    copy = image.convert(image.mode)
    copy.info = {key: value for key, value in image.info.items() if key in ("transparency", "icc_profile")}
    return copy
