"""Files that are no photo, or not yet one, told by their first bytes, and what to do with each."""

from invrecon.errors import InputError

HEAD_BYTES = 512
"""How much of a file is looked at."""

_RAW = "is a camera raw file ({}); develop it to JPEG or TIFF first"
_VIDEO = "is a video; save the frame you want as PNG or JPEG first"
_WEB_PAGE = "is a web page, not the picture on it; download the picture itself"
_DRAWING = "is an SVG drawing, not a photo; export it as PNG first"

# (offset, bytes, sentence)
_SIGNATURES = (
    (8, b"CR\x02", _RAW.format("CR2")),
    (4, b"ftypcrx ", _RAW.format("CR3")),
    (0, b"FUJIFILMCCD-RAW", _RAW.format("RAF")),
    (0, b"IIRO", _RAW.format("ORF")),
    (0, b"IIRS", _RAW.format("ORF")),
    (0, b"MMOR", _RAW.format("ORF")),
    (0, b"IIU\0", _RAW.format("RW2")),
    (0, b"FOVb", _RAW.format("X3F")),
    (0, b"\0MRM", _RAW.format("MRW")),
    (6, b"HEAPCCDR", _RAW.format("CRW")),
    (0, b"\x1aE\xdf\xa3", _VIDEO),
    (12, b"CgBI", "is a PNG that Xcode changed for a device; get the picture that it was made of"),
    (0, b"8BPS", "is a Photoshop document; export it as PNG or JPEG first"),
    (0, b"%PDF-", "is a PDF document; export the picture in it as PNG or JPEG first"),
    (0, b"PK\x03\x04", "is a ZIP archive; unpack it first"),
    (0, b"version https://git-lfs", "is a Git LFS pointer, not the picture itself; run git lfs pull first"),
    (
        0,
        b"\0\5\x16\7",
        "is what macOS keeps beside a photo (AppleDouble); give the photo without ._ in its name",
    ),
)
HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
AVIF_BRANDS = {b"avif", b"avis"}
_MARKUP = ((b"<!doctype html", _WEB_PAGE), (b"<html", _WEB_PAGE), (b"<svg", _DRAWING))


def refuse_other_kinds(head: bytes) -> None:
    """Raises InputError where a file's first bytes are those of a kind that holds no finished picture."""
    for offset, signature, sentence in _SIGNATURES:
        if head.startswith(signature, offset):
            raise InputError(sentence)
    if head[8:10] == b'{"' and not any(head[4:8]):
        raise InputError(
            "is a .safetensors file, not a photo; if it is a seed file, name it NAME.seed.safetensors"
        )
    if (known := brands(head)) and not known & (HEIF_BRANDS | AVIF_BRANDS):
        raise InputError(_VIDEO)
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(b"<"):
        for word, sentence in _MARKUP:
            if word in text:
                raise InputError(sentence)


def raw_file(name: str) -> InputError:
    """The error for a camera raw file; `name` is of its format or camera."""
    return InputError(_RAW.format(name))


def brands(head: bytes) -> set[bytes]:
    """The brands of an ISO media file (HEIF, AVIF and video are such), the empty set for other files."""
    if head[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return {head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))}
