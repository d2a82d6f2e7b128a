"""Which picture of a TIFF file is the photo. Camera raws are TIFF files too, with a preview first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image

from invrecon.errors import InputError, printable
from invrecon.image.ifd import Directories, Tags
from invrecon.image.kinds import raw_file

_NEW_SUBFILE_TYPE, _WIDTH, _HEIGHT, _PHOTOMETRIC, _MAKE = 254, 256, 257, 262, 271
_SUBFILE_TYPE, _SUB_IFDS, _DNG_VERSION = 255, 330, 50706
_SENSOR = (32803, 34892)  # PhotometricInterpretation of a colour filter array, and of linear raw


@dataclass(frozen=True)
class _Page:
    """A picture of the file: `whole` is neither a preview nor a mask, `sensor` is not developed yet."""

    width: int
    height: int
    whole: bool
    sensor: bool

    @classmethod
    def of(cls, tags: Tags) -> _Page:
        def number(tag: int) -> int:
            return (*tags.get(tag, ()), 0)[0]

        preview_or_mask = number(_NEW_SUBFILE_TYPE) & 5 or number(_SUBFILE_TYPE) == 2
        return cls(number(_WIDTH), number(_HEIGHT), not preview_or_mask, number(_PHOTOMETRIC) in _SENSOR)


def open_tiff(file: BinaryIO, head: bytes) -> Image.Image:
    """Opens a TIFF file at the page that is the photo.

    That is the largest page that isn't marked as a preview or a mask, where each other one is at most half as
    wide and half as high: those are thumbnails, marked or not.

    Raises:
        InputError: it is a camera raw file, or has several pages of which any might be meant.
    """
    directories = Directories(file, head)
    pages = directories.chain()
    if pages:
        _refuse_raw(pages[0], [directories.read(offset)[0] for offset in pages[0].get(_SUB_IFDS, ())])
    number = _choose([_Page.of(tags) for tags in pages]) if pages else 0
    file.seek(0)
    image = Image.open(file, formats=["TIFF"])
    image.seek(number)
    return image


def _refuse_raw(tags: Tags, parts: list[Tags]) -> None:
    """Refuses a file whose first directory, or a part below it (SubIFDs), holds what a sensor saw."""
    if _DNG_VERSION in tags:
        raise raw_file("DNG")
    first, others = _Page.of(tags), [_Page.of(part) for part in parts]
    if first.sensor or any(other.sensor or (other.whole and other.width > first.width) for other in others):
        make = bytes(code for code in tags.get(_MAKE, ()) if code < 128).decode("ascii").strip("\0 ")
        raise raw_file(printable(make or "of an unknown camera"))


def _choose(pages: list[_Page]) -> int:
    """The number of the page that is the photo."""
    whole = [number for number, page in enumerate(pages) if page.whole]
    if not whole:
        raise InputError("is a TIFF file of previews only; save the photo itself as PNG or JPEG first")
    largest = max(whole, key=lambda number: pages[number].width * pages[number].height)
    width, height = pages[largest].width, pages[largest].height
    alike = sum(2 * pages[number].width > width or 2 * pages[number].height > height for number in whole)
    if alike > 1:
        raise InputError("is a TIFF file of several pages; save the one you want as a file of its own first")
    return largest
