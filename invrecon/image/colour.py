"""A decoded image of any mode to sRGB and alpha."""

from io import BytesIO

from PIL import Image, ImageChops, ImageCms, ImageFile

from invrecon.image.depth import eight_bits, is_deep, opacity_of_key


def to_srgb(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Splits an image of any mode in sRGB, transparent pixels laid on white, and alpha (None where opaque).

    Its colours are read by the ICC profile in `image.info`, or as sRGB where there is none.
    """
    colour, alpha = _split_alpha(image)
    rgb = _apply_profile(colour, image.info.get("icc_profile"))
    if alpha is not None:
        rgb.paste((255, 255, 255), mask=ImageChops.invert(alpha))
    if isinstance(rgb, ImageFile.ImageFile):
        rgb = rgb.copy()  # without the file's EXIF
    rgb.info = {}  # the profile, orientation and transparency kept there hold no longer
    return rgb, alpha


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    if is_deep(image):
        colour, key = eight_bits(image), image.info.get("transparency")
        alpha = None if key is None else opacity_of_key(image, key)
    elif image.has_transparency_data:
        mode = "LA" if image.mode in ("1", "L", "LA", "La") else "RGBA"
        both = image if image.mode == mode else image.convert(mode)
        colour, alpha = both.convert(mode[:-1]), both.getchannel("A")
    else:
        colour, alpha = image, None
    opaque = alpha is None or alpha.getextrema()[0] == 255
    return colour, None if opaque else alpha


def _apply_profile(image: Image.Image, icc: bytes | None) -> Image.Image:
    """`image` in sRGB, itself changed where it is RGB.

    A profile that is broken or for other colours is ignored, as viewers do.
    """
    if image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("RGB")
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(icc))  # type: ignore[arg-type]  # None raises TypeError
        if image.mode == "L":
            return _apply_to_grey(image, profile)
        transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), image.mode, "RGB")
        return ImageCms.applyTransform(image, transform, inPlace=image.mode == "RGB") or image
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return image if image.mode == "RGB" else image.convert("RGB")


def _apply_to_grey(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    """Only the 256 levels go through the profile: LittleCMS's table for whole images is coarse near black."""
    mode = "RGB" if profile.profile.xcolor_space.strip() == "RGB" else "L"
    levels = Image.frombytes("L", (256, 1), bytes(range(256))).convert(mode)
    exact = ImageCms.Flags.NOOPTIMIZE
    transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB", flags=exact)
    table = ImageCms.applyTransform(levels, transform)
    assert table is not None  # only in place it returns nothing
    return Image.merge("RGB", [image.point(channel.tobytes()) for channel in table.split()])
