"""JPEG XL files. pillow-jxl-plugin decodes where it should only open: size and kind are looked up before."""

from io import BytesIO
from typing import BinaryIO

from PIL import Image

from invrecon.errors import InputError
from invrecon.image.boxes import boxes

CODESTREAM, CONTAINER = b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # width : height
_MAX_BYTES = 2**30
_ANIMATION = "is an animation (JPEG XL); save the frame you want as PNG first"


def check_jxl(file: BinaryIO) -> tuple[int, int]:
    """(width, height), as stored, of a JPEG XL file.

    Raises:
        InputError: it is an animation, or the plugin isn't installed.
        ValueError: the header is damaged.

    Source: ISO/IEC 18181-1, SizeHeader and ImageMetadata.
    """
    try:
        import pillow_jxl  # noqa: F401
    except ImportError as error:
        raise InputError('is a JPEG XL file; pip install "invrecon[jxl]" to read it') from error
    bits = _Bits(_codestream(file))
    small = bits.read(1)
    height = _length(bits, small)
    ratio = bits.read(3)
    width = height * _RATIOS[ratio - 1][0] // _RATIOS[ratio - 1][1] if ratio else _length(bits, small)
    if not bits.read(1) and bits.read(1):  # metadata that aren't the default ones, with extra fields
        bits.read(3)  # orientation, which the decoder sees to
        if bits.read(1):
            _skip_size(bits)
        if not bits.read(1) and bits.read(1):  # no preview, but an animation
            raise InputError(_ANIMATION)
    return width, height


def decode_jxl(file: BinaryIO) -> Image.Image:
    """The picture, decoded and turned as its codestream says.

    EXIF, whose orientation would turn it twice, is left out, but for a JPEG packed as JPEG XL: that isn't
    turned yet.
    """
    from pillow_jxl.JpegXLImagePlugin import JXLImageFile

    file.seek(0)
    data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise InputError("is larger than 1 GiB; scale the picture down first")
    image = JXLImageFile(BytesIO(data))
    if not image.jpeg:
        image.info.pop("exif", None)
    image.load()
    return image


class _Bits:
    """Numbers from bytes, lowest bits first."""

    def __init__(self, data: bytes) -> None:
        self.value, self.left = int.from_bytes(data, "little"), 8 * len(data)

    def read(self, count: int) -> int:
        if count > self.left:
            raise ValueError("its header is cut off")
        number = self.value & ((1 << count) - 1)
        self.value >>= count
        self.left -= count
        return number


def _length(bits: _Bits, small: int) -> int:
    if small:
        return 8 * (bits.read(5) + 1)
    return 1 + bits.read((9, 13, 18, 30)[bits.read(2)])


def _skip_size(bits: _Bits) -> None:
    small = bits.read(1)
    _length(bits, small)
    if not bits.read(3):
        _length(bits, small)


def _codestream(file: BinaryIO) -> bytes:
    """The first bytes of the codestream after its signature."""
    file.seek(0)
    if file.read(2) == CODESTREAM:
        return file.read(32)
    file.seek(0)
    for kind, _ in boxes(file):
        if kind in (b"jxlc", b"jxlp"):
            file.seek(4 if kind == b"jxlp" else 0, 1)
            if file.read(2) == CODESTREAM:
                return file.read(32)
            break
    raise ValueError("it has no codestream")
