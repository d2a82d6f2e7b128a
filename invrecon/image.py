"""Photos: files to upright sRGB, photos to the model's square and back, pictures to tensors and back, and PNG files."""

import hashlib
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import torch
from PIL import ExifTags, Image, ImageChops, ImageCms, UnidentifiedImageError
from torch import Tensor

from invrecon.errors import InputError, InvreconError, printable
from invrecon.formats import not_a_picture, open_picture
from invrecon.muted import muted
from invrecon.writing import replacing

Fit = Literal["crop", "pad", "stretch"]

MAX_MEGAPIXELS = 100

# EXIF orientation -> what turns the stored picture upright
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Photo:
    """A photo as it is meant to be seen.

    `rgb` is upright, in sRGB and in mode RGB, with its transparent pixels laid on white; `alpha` (mode L, same size) is None
    where the photo is opaque; `sha256` is the hash of the file's bytes, in hexadecimal.
    """

    path: Path
    rgb: Image.Image
    alpha: Image.Image | None
    sha256: str


def load_photo(path: Path) -> Photo:
    """The first frame of the picture in the file `path`, of any common format, colour mode and depth.

    Sizes run from 1 x 1 to 100 megapixels; larger ones are refused before they are decoded. Grey of 16 bits or more is scaled
    to 8 bits. A broken colour profile or EXIF block is ignored.

    Raises InputError, one line with the file's name, where the file is missing, unreadable, damaged, too large or no picture.
    """
    try:
        if path.is_dir():
            raise InputError("is a folder; give the photos in it instead")
        if path.exists() and not path.is_file():
            raise InputError("isn't a regular file; copy the photo into one first")
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd files; what matters raises
            rgb, alpha = _to_srgb(_upright(_decode(file)))
            return Photo(path, rgb, alpha, _sha256(file))
    except InputError as error:
        raise InputError(f"{printable(path)}: {error}") from error.__cause__
    except MemoryError as error:
        raise InputError(f"{printable(path)}: doesn't fit into memory; scale it down first") from error
    except (OSError, ValueError) as error:
        raise InputError(
            f"{printable(path)}: can't be read ({_cause(error)}); check its name and permissions"
        ) from error


def _decode(file: BinaryIO) -> Image.Image:
    is_tiff = file.read(2) in (b"II", b"MM")
    file.seek(0)
    try:
        with muted() if is_tiff else nullcontext():  # libtiff tells stderr what is wrong, from C
            return _open(file)
    except (InputError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise not_a_picture(file) from error
    except Image.DecompressionBombError as error:
        raise InputError(f"has more than {MAX_MEGAPIXELS} megapixels; scale it down first") from error
    except Exception as error:  # a damaged file can make a decoder raise anything
        raise InputError(
            f"is damaged ({_cause(error)}); get a fresh copy or save it again in an image editor"
        ) from error


def _open(file: BinaryIO) -> Image.Image:
    image = open_picture(file)
    if min(image.size) < 1:
        raise InputError("has no pixels; save it again in an image editor")
    if image.width * image.height > MAX_MEGAPIXELS * 1_000_000:
        raise Image.DecompressionBombError
    image.load()
    return image


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    while block := file.read(2**20):
        digest.update(block)
    return digest.hexdigest()


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a damaged EXIF block can raise anything too, yet the pixels are sound
        turn = None
    return image if turn is None else image.transpose(turn)


def _to_srgb(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Splits an image of any mode in sRGB, transparent pixels laid on white, and alpha (None where it is opaque)."""
    colour, alpha = _split_alpha(image)
    rgb = _apply_profile(colour, image.info.get("icc_profile"))
    if alpha is not None:
        rgb.paste((255, 255, 255), mask=ImageChops.invert(alpha))
    rgb.info = {}  # the profile, orientation and transparency kept there hold no longer
    return rgb, alpha


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    if image.mode[0] in "IF":  # 16 or 32 bits: Pillow's own conversions clip
        colour, key = _eight_bits(image), image.info.get("transparency")
        alpha = None if key is None else _map_strips(image, lambda values: np.where(values == key, 0, 255))
    elif image.has_transparency_data:
        mode = "LA" if image.mode in ("1", "L", "LA", "La") else "RGBA"
        both = image if image.mode == mode else image.convert(mode)
        colour, alpha = both.convert(mode[:-1]), both.getchannel("A")
    else:
        colour, alpha = image, None
    opaque = alpha is None or alpha.getextrema()[0] == 255
    return colour, None if opaque else alpha


def _apply_profile(image: Image.Image, icc: Any) -> Image.Image:
    """`image` in sRGB, itself changed where it is RGB; a profile that is broken or for other colours is ignored, as viewers do."""
    if image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("RGB")
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(icc))
        if image.mode == "L" and profile.profile.xcolor_space.strip() == "RGB":
            image = image.convert("RGB")
        transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), image.mode, "RGB")
        return ImageCms.applyTransform(image, transform, inPlace=image.mode == "RGB") or image
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of mode I;16, I or F in mode L.

    Black to white is 0 to 65535 in integers and 0 to 1 or 0 to 255 in floats; values outside of these are stretched from the
    least to the greatest. What is not finite turns black.
    """
    black, white = _range(image)
    gain = 255 / ((white - black) or 1)
    return _map_strips(
        image, lambda values: np.where(np.isfinite(values), values - black, 0).clip(0, white - black) * gain
    )


def _range(image: Image.Image) -> tuple[float, float]:
    if image.mode.startswith("I;16"):
        return 0, 65535
    low, high = math.inf, -math.inf
    for values in _strips(image):
        low = min(low, values.min(initial=low, where=np.isfinite(values)))
        high = max(high, values.max(initial=high, where=np.isfinite(values)))
    for white in (65535,) if image.mode == "I" else (1, 255):
        if low >= 0 and high <= white:
            return 0, white
    return low, high


def _strips(image: Image.Image) -> Iterator[np.ndarray]:
    """The values of a grey image, some rows at a time, so that no copy of the whole is made."""
    rows = max(1, 2**20 // image.width)
    for top in range(0, image.height, rows):
        yield np.asarray(image.crop((0, top, image.width, min(top + rows, image.height))), np.float64)


def _map_strips(image: Image.Image, function: Callable[[np.ndarray], np.ndarray]) -> Image.Image:
    mapped, top = Image.new("L", image.size), 0
    for strip in _strips(image):
        mapped.paste(Image.fromarray(function(strip).round().astype(np.uint8)), (0, top))
        top += len(strip)
    return mapped


@dataclass(frozen=True)
class Canvas:
    """The reversible way between a photo and the square that the model sees.

    `photo_size` is (width, height) of the upright photo, `size` the square's side in pixels. `box` is (left, top, right, bottom):
    for crop the part of the photo that the square shows, for pad the part of the square that the photo fills, for stretch the
    whole photo.
    """

    photo_size: tuple[int, int]
    size: int
    fit: Fit
    box: tuple[int, int, int, int]

    def place(self, rgb: Image.Image) -> Image.Image:
        """The photo (`photo_size`, RGB) as a square (`size` x `size`, RGB)."""
        if self.fit != "pad":
            return rgb.resize(
                (self.size, self.size), Image.Resampling.LANCZOS, box=self.box, reducing_gap=3.0
            )
        left, top, right, bottom = self.box
        small = rgb.resize((right - left, bottom - top), Image.Resampling.LANCZOS, reducing_gap=3.0)
        # Edge pixels continue outwards: a border of one colour would be a hard edge, which the autoencoder blurs into the photo.
        return Image.fromarray(
            np.pad(
                np.asarray(small), ((top, self.size - bottom), (left, self.size - right), (0, 0)), mode="edge"
            )
        )

    def restore(self, square: Image.Image, photo: Photo) -> Image.Image:
        """The square (`size` x `size`, RGB) back at the size of `photo`: RGB, or RGBA where the photo has an alpha.

        crop pastes it into the photo, pad cuts the border off, stretch resizes.
        """
        if self.fit == "crop":
            left, top, right, bottom = self.box
            rgb = photo.rgb.copy()
            rgb.paste(square.resize((right - left, bottom - top), Image.Resampling.LANCZOS), (left, top))
        else:
            box = self.box if self.fit == "pad" else None
            rgb = square.resize(self.photo_size, Image.Resampling.LANCZOS, box=box)
        return rgb if photo.alpha is None else _lift_off_white(rgb, photo.alpha)


def plan_canvas(photo_size: tuple[int, int], size: int, fit: Fit) -> Canvas:
    """The canvas for a photo of `photo_size` (width, height) on a square of side `size`, centred."""
    width, height = photo_size
    if fit == "stretch":
        return Canvas(photo_size, size, fit, (0, 0, width, height))
    if fit == "crop":
        inner, outer = (min(photo_size), min(photo_size)), photo_size
    else:
        scale = size / max(photo_size)
        inner, outer = (max(1, round(width * scale)), max(1, round(height * scale))), (size, size)
    left, top = (outer[0] - inner[0]) // 2, (outer[1] - inner[1]) // 2
    return Canvas(photo_size, size, fit, (left, top, left + inner[0], top + inner[1]))


def _lift_off_white(rgb: Image.Image, alpha: Image.Image) -> Image.Image:
    """The RGBA image that gives `rgb` when laid on white: its negative, laid on black, is what Pillow calls RGBa."""
    negative = Image.merge("RGBa", (*ImageChops.invert(rgb).split(), alpha)).convert("RGBA").convert("RGB")
    lifted = ImageChops.invert(negative)
    lifted.putalpha(alpha)
    return lifted


def to_tensor(image: Image.Image) -> Tensor:
    """An image as (1, 3, H, W) float32 in [-1, 1]."""
    values = torch.from_numpy(np.array(image.convert("RGB"), np.float32))
    return (values / 127.5 - 1).permute(2, 0, 1)[None].contiguous()


def to_image(pixels: Tensor) -> Image.Image:
    """(1, 3, H, W) in [-1, 1] as an RGB image, clamped and rounded as diffusers' VaeImageProcessor does.

    Raises InvreconError where a value isn't finite.
    """
    if not pixels.isfinite().all():
        raise InvreconError("the decoded image has values that aren't finite; compute in float32 instead")
    unit = (pixels / 2 + 0.5).clamp(0, 1)
    return Image.fromarray(
        (unit[0].detach().permute(1, 2, 0).float().cpu().numpy() * 255).round().astype(np.uint8)
    )


def save_png(image: Image.Image, path: Path, overwrite: bool = True) -> None:
    """Writes `image` to `path` as PNG, whole or not at all; folders above are made as needed.

    Raises InvreconError, in one line, where the disk doesn't take it, or where it exists and isn't to be overwritten.
    """
    with replacing(path, overwrite) as partial:
        image.save(partial, format="PNG")


def save_gif(
    frames: Sequence[Image.Image], path: Path, milliseconds: int = 120, *, overwrite: bool = True
) -> None:
    """Writes pictures of one size as an animation that runs there and back for ever, whole or not at all.

    Raises InvreconError, in one line, where the disk doesn't take it.
    """
    both = [*frames, *frames[-2:0:-1]]
    with replacing(path, overwrite) as partial:
        both[0].save(
            partial, format="GIF", save_all=True, append_images=both[1:], duration=milliseconds, loop=0
        )


def _cause(error: Exception) -> str:
    return printable(getattr(error, "strerror", None) or str(error) or type(error).__name__)
