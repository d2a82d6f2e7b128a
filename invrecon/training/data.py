"""Training pictures: collected from unpacked packages into a small folder."""

import json
import re
from pathlib import Path

from PIL import Image

from invrecon.toml import tomllib

Image.MAX_IMAGE_PIXELS = None  # the sources are packages that the user chose to install

PHOTO_SIDE, LEAST_SIDE, TEXTURE_SIDE, CUTOUT_SIDE = 640, 272, 384, 256


def noun_phrase(description: str) -> str | None:
    """'A “Fuji” apple.' -> 'fuji apple'; None where the description names no thing."""
    head = re.split(r"[.!?,;:(—–]", description.strip())[0].lower()
    head = re.sub(r"[^a-z' -]", "", head.replace("’", "'"))
    head = re.sub(r"^(an?|the|some|our|two|another)\s+", "", head.strip())
    return head if head and len(head.split()) <= 4 else None


def prepare(root: Path, out: Path) -> dict[str, int]:
    """Collects photos, textures and cut-outs from unpacked packages below `root` into `out`."""
    sources, captions = (
        tomllib.loads(Path(__file__).with_name(f"{name}.toml").read_text(encoding="utf-8"))
        for name in ("sources", "captions")
    )
    seen: set[tuple[str, int]] = set()
    held_out = {*sources["skip"], *sources["validation"]}
    share, counts = root / "usr/share", {}
    index: dict[str, dict[str, str | int]] = {}
    for kind in ("photos", "textures", "cutouts"):
        (out / kind).mkdir(parents=True, exist_ok=True)
        counts[kind] = 0
        for source in sources[kind]:
            for path in _files(share, source):
                name = path.parent.parent.parent.name if path.parent.name == "images" else path.stem
                same = path.name, path.stat().st_size  # a picture that lies in several folders counts once
                if same in seen or held_out & {name, f"{path.parent.name}/{name}"}:
                    continue
                seen.add(same)
                table = captions.get(source.get("captions", path.parent.name), {})
                if kind == "cutouts":
                    caption = table.get(name) if "captions" in source else _noun_beside(path)
                    if not caption:
                        continue
                else:
                    caption = table.get(name) or sources["captions"].get(name, "")
                target = out / kind / f"{len(index):04d}.{'webp' if kind == 'cutouts' else 'jpg'}"
                entry = _collect(path, kind, caption, target)
                if entry is not None:
                    often = any(word in path.as_posix() for word in source.get("often", []))
                    index[f"{kind}/{target.name}"] = {
                        "package": source["package"],
                        "file": path.name,
                        "weight": 4 if often else 1,
                        **entry,
                    }
                    counts[kind] += 1
    (out / "index.json").write_text(json.dumps(index, indent=1))
    return counts


def _files(share: Path, source: dict) -> list[Path]:
    paths = sorted({p for pattern in source["files"] for p in share.glob(pattern)})
    paths = [p for p in paths if not any(word in p.as_posix() for word in source.get("without", []))]
    if source.get("largest_per_folder"):
        largest: dict[Path, Path] = {}
        for path in paths:
            best = largest.setdefault(path.parent, path)
            if path.stat().st_size > best.stat().st_size:
                largest[path.parent] = path
        paths = sorted(largest.values())
    return paths


def _noun_beside(path: Path) -> str:
    """What the .txt file beside a stamp calls it; "" where there is none or it names no thing."""
    text = path.with_suffix(".txt")
    return (text.exists() and noun_phrase(text.read_text(encoding="utf-8").splitlines()[0])) or ""


def _collect(path: Path, kind: str, caption: str, target: Path) -> dict[str, str] | None:
    image: Image.Image = Image.open(path)
    if kind != "cutouts":
        if min(image.size) < 240:
            return None
        image.draft("RGB", (2 * PHOTO_SIDE, 2 * PHOTO_SIDE))
        image = image.convert("RGB")
        if kind == "textures":
            image.thumbnail((TEXTURE_SIDE, TEXTURE_SIDE), Image.Resampling.LANCZOS)
        scale = min(1.0, max(PHOTO_SIDE / max(image.size), LEAST_SIDE / min(image.size)))
        image = image.resize(
            (round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS
        )
        image.save(target, quality=90)
        return {"caption": caption}
    image = image.convert("RGBA")
    box = image.getchannel("A").point(lambda a: 255 * (a > 40)).getbbox()
    if box is None or min(box[2] - box[0], box[3] - box[1]) < 48:
        return None
    image = image.crop(box)
    image.thumbnail((CUTOUT_SIDE, CUTOUT_SIDE), Image.Resampling.LANCZOS)
    image.save(target, quality=84)
    return {"caption": caption}
