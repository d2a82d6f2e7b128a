"""What a PNG of ours says of itself: a text chunk, and XMP for programs that ask what a picture is."""

import json
import math
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from PIL.PngImagePlugin import PngInfo

from invrecon.errors import InputError, UsageError
from invrecon.formats import PNG_SIGNATURE
from invrecon.settings import read_edit

_KEYWORD = "invrecon"
_MAX_TEXT = 1 << 20  # bytes
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "kind": str,
    "model": str,
    "fingerprint": str,
    "prompt": str,
    "negative_prompt": str,
    "num_inference_steps": int,
    "guidance_scale": (int, float),
    "sampler": str,
    "width": int,
    "height": int,
    "versions": dict,
}

_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_GENERATED, _COMPOSITE = "trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia"
_COMPOSITES = ("edit", "comparison")  # kinds of pictures that a photo's own pixels can be part of
_XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
    Iptc4xmpExt:DigitalSourceType="{source}"/>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""


def chunks_of(about: Mapping[str, Any]) -> PngInfo:
    """The chunks of a picture: `invrecon`, JSON, and `XML:com.adobe.xmp` with IPTC's DigitalSourceType.

    Args:
        about: as `pipeline.about` makes it.
    """
    text = json.dumps(about, allow_nan=False, ensure_ascii=False)
    source = _SOURCE_TYPE + (_COMPOSITE if about["kind"] in _COMPOSITES else _GENERATED)
    chunks = PngInfo()
    chunks.add_itxt(_KEYWORD, text.encode("utf-8", "replace").decode())
    chunks.add_itxt("XML:com.adobe.xmp", _XMP.format(source=source))
    return chunks


def read_about(path: Path) -> dict[str, Any]:
    """What a PNG of ours says of itself; fields that aren't known are left out.

    Raises:
        InputError: it says nothing, or its chunk is damaged.
        OSError: it can't be opened.
    """
    with path.open("rb") as file:
        text = _find(file, path)
    if text is None:
        raise InputError(
            f"{path}: says nothing of itself: another program wrote it, or it was written with --no-metadata"
        )
    try:
        about = json.loads(text)
        if not _is_whole(about):
            raise ValueError("fields are missing or of the wrong type")
        if "edit" in about:
            read_edit(about["edit"])
    except (ValueError, RecursionError, UsageError) as error:
        cause = "not JSON" if isinstance(error, json.JSONDecodeError | RecursionError) else str(error)
        raise InputError(f"{path}: its chunk {_KEYWORD!r} is damaged ({cause})") from error
    return {name: about[name] for name in (*_FIELDS, "edit", "seed_sha256") if name in about}


def _is_whole(about: object) -> bool:
    return (
        isinstance(about, dict)
        and all(
            isinstance(about.get(name), kind) and not isinstance(about[name], bool)
            for name, kind in _FIELDS.items()
        )
        and isinstance(about.get("seed_sha256", ""), str)
        and abs(about["guidance_scale"]) < math.inf
        and all(isinstance(version, str) for version in about["versions"].values())
    )


def _find(file: BinaryIO, path: Path) -> bytes | None:
    """The text of the chunk; None where there is none."""
    file.seek(len(PNG_SIGNATURE))
    while len(start := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", start)
        data = file.read(min(length, _MAX_TEXT)) if kind == b"iTXt" else b""
        if data.startswith(_KEYWORD.encode() + b"\0"):
            if length > _MAX_TEXT:
                raise InputError(f"{path}: its chunk {_KEYWORD!r} is larger than {_MAX_TEXT >> 20} MiB")
            if file.read(4) != struct.pack(">I", zlib.crc32(kind + data)):
                raise InputError(f"{path}: its chunk {_KEYWORD!r} is damaged, or the file is cut short")
            return data.split(b"\0", 5)[-1]  # keyword, compression's flag and method, language, translation
        file.seek(length + 4 - len(data), 1)
    return None
