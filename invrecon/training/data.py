"""Training pictures: collected into a small folder, then served as random crops and composites."""

import colorsys
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from invrecon.toml import tomllib

Image.MAX_IMAGE_PIXELS = None  # the sources are packages that the user chose to install

PHOTO_SIDE, CUTOUT_SIDE = 640, 256

# name: (hue range in degrees, saturation range, value range)
COLOURS: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "red": ((-10, 10), (0.75, 1.0), (0.6, 1.0)),
    "orange": ((20, 36), (0.8, 1.0), (0.85, 1.0)),
    "yellow": ((48, 62), (0.6, 1.0), (0.85, 1.0)),
    "green": ((90, 145), (0.5, 1.0), (0.35, 0.9)),
    "blue": ((200, 235), (0.55, 1.0), (0.5, 1.0)),
    "purple": ((265, 290), (0.5, 1.0), (0.4, 0.8)),
    "pink": ((315, 345), (0.25, 0.6), (0.9, 1.0)),
    "brown": ((18, 32), (0.5, 0.8), (0.3, 0.55)),
    "white": ((0, 360), (0.0, 0.03), (0.96, 1.0)),
    "grey": ((0, 360), (0.0, 0.06), (0.35, 0.7)),
    "black": ((0, 360), (0.0, 0.3), (0.0, 0.08)),
}


def colour_name(rgb: np.ndarray) -> str:
    """Names the dominant colour of pixels, (N, 3) in [0, 1]."""
    hue, saturation, value = colorsys.rgb_to_hsv(*np.median(rgb, axis=0).tolist())
    hue *= 360
    if value < 0.18:
        return "black"
    if saturation < 0.18:
        return "white" if value > 0.8 else "grey"
    if (hue < 45 or hue > 345) and value < 0.62 and saturation < 0.85:
        return "brown"
    if hue > 310 and value > 0.75 and saturation < 0.6:
        return "pink"
    edges = (
        (16, "red"),
        (42, "orange"),
        (68, "yellow"),
        (165, "green"),
        (255, "blue"),
        (310, "purple"),
        (361, "red"),
    )
    return next(name for edge, name in edges if hue <= edge)


def noun_phrase(description: str) -> str | None:
    """'A “Fuji” apple.' -> 'fuji apple'; None where the description names no thing."""
    head = re.split(r"[.!?,;:(—–]", description.strip())[0].lower()
    head = re.sub(r"[^a-z' -]", "", head.replace("’", "'"))
    head = re.sub(r"^(an?|the|some|our|two|another)\s+", "", head.strip())
    return head if head and len(head.split()) <= 4 else None


def prepare(root: Path, out: Path) -> dict[str, int]:
    """Collects photos, textures and cut-outs from unpacked packages below `root` into `out`."""
    sources = tomllib.loads(Path(__file__).with_name("sources.toml").read_text())
    share, counts = root / "usr/share", {}
    index: dict[str, dict[str, str | int]] = {}
    for kind in ("photos", "textures", "cutouts"):
        (out / kind).mkdir(parents=True, exist_ok=True)
        counts[kind] = 0
        for source in sources[kind]:
            for path in _files(share, source):
                name = path.parent.parent.parent.name if path.parent.name == "images" else path.stem
                if name in sources["skip"]:
                    continue
                target = out / kind / f"{len(index):04d}.{'webp' if kind == 'cutouts' else 'jpg'}"
                entry = _collect(path, kind, name, sources["captions"], target)
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


def _collect(
    path: Path, kind: str, name: str, captions: dict[str, str], target: Path
) -> dict[str, str] | None:
    image: Image.Image = Image.open(path)
    if kind != "cutouts":
        if min(image.size) < 240:
            return None
        image = image.convert("RGB")
        scale = min(1.0, PHOTO_SIDE / min(image.size))
        image = image.resize(
            (round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS
        )
        image.save(target, quality=94, subsampling=0)
        return {"caption": captions.get(name, "")}
    text = path.with_suffix(".txt")
    noun = noun_phrase(text.read_text(encoding="utf-8").splitlines()[0]) if text.exists() else None
    image = image.convert("RGBA")
    box = image.getchannel("A").point(lambda a: 255 * (a > 40)).getbbox()
    if noun is None or box is None or min(box[2] - box[0], box[3] - box[1]) < 48:
        return None
    image = image.crop(box)
    image.thumbnail((CUTOUT_SIDE, CUTOUT_SIDE), Image.Resampling.LANCZOS)
    image.save(target, quality=92)
    return {"caption": noun}


class Corpus:
    """The prepared pictures in memory.

    Args:
        folder: what `prepare` wrote.
        seed: of all random choices.
    """

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.random = random.Random(seed)
        index = json.loads((folder / "index.json").read_text())
        self.photos: list[tuple[Tensor, str]] = []
        self.textures: list[Tensor] = []
        self.cutouts: list[tuple[Image.Image, str]] = []
        self.weights: list[int] = []  # how often each cut-out is shown, relative to the others
        for name, entry in index.items():
            image: Image.Image = Image.open(folder / name)
            if name.startswith("cutouts"):
                self.cutouts.append((image.convert("RGBA"), entry["caption"]))
                self.weights.append(entry["weight"])
            elif name.startswith("textures"):
                self.textures.append(_tensor(image.resize((256, 256))))
            else:
                for side in (PHOTO_SIDE, 400, 272):  # from texture to whole scenes
                    scale = side / min(image.size)
                    size = round(image.width * scale), round(image.height * scale)
                    self.photos.append(
                        (_tensor(image.resize(size, Image.Resampling.LANCZOS)), entry["caption"])
                    )

    def photo_crop(self, size: int, captioned: bool = False) -> tuple[Tensor, str]:
        """A random crop (3, size, size), uint8, flipped at random, with the photo's caption."""
        while True:
            photo, caption = self.random.choice(self.photos)
            if min(photo.shape[1:]) >= size and (caption or not captioned):
                break
        top = self.random.randint(0, photo.shape[1] - size)
        left = self.random.randint(0, photo.shape[2] - size)
        crop = photo[:, top : top + size, left : left + size]
        return (crop.flip(2) if self.random.random() < 0.5 else crop), caption

    def composite(self, size: int) -> tuple[Tensor, str]:
        """A cut-out on a plain, textured or photographic ground (3, size, size), with its caption."""
        ((picture, noun),) = self.random.choices(self.cutouts, self.weights)
        if self.random.random() < 0.2:
            picture = _turn_hue(picture, self.random.uniform(40, 320))
        scale = size * self.random.uniform(0.5, 0.95) / max(picture.size)
        picture = picture.resize(
            (max(8, round(picture.width * scale)), max(8, round(picture.height * scale))),
            Image.Resampling.LANCZOS,
        )
        if self.random.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        ground, place = self._ground(size)
        # mostly near the middle, as photographs are
        left = round((size - picture.width) * min(1, max(0, self.random.gauss(0.5, 0.2))))
        top = round((size - picture.height) * min(1, max(0, self.random.gauss(0.5, 0.2))))
        ground.paste(picture, (left, top), picture)
        pixels = np.asarray(picture)
        opaque = pixels[pixels[..., 3] > 200][:, :3] / 255
        colour = colour_name(opaque) if len(opaque) else ""
        noun = self.random.choice((noun, noun, noun.split()[-1]))
        thing = noun if not colour or colour in noun or self.random.random() < 0.2 else f"{colour} {noun}"
        thing = f"{'an' if thing[0] in 'aeiou' else 'a'} {thing}"
        opening = self.random.choice(("a photo of ", "a photo of ", ""))
        return _tensor(ground), opening + thing + (f" on {place}" if self.random.random() < 0.9 else "")

    def _ground(self, size: int) -> tuple[Image.Image, str]:
        draw = self.random.random()
        if draw > 0.92:
            crop, _ = self.photo_crop(size)
            return Image.fromarray(crop.permute(1, 2, 0).numpy()), "a photo background"
        colour = self.random.choice((*COLOURS, "white", "white", "blue", "green", "red"))
        (h0, h1), (s0, s1), (v0, v1) = COLOURS[colour]
        uniform = self.random.uniform
        rgb = np.array(colorsys.hsv_to_rgb(uniform(h0, h1) / 360 % 1, uniform(s0, s1), uniform(v0, v1)))
        ground = np.broadcast_to(rgb, (size, size, 3)).copy()
        textured = draw > 0.75 and self.textures
        if textured:
            texture = self.random.choice(self.textures)[:, :size, :size].float().mean(0).numpy() / 255
            texture = np.resize(texture, (size, size))
            ground *= np.clip(1 + 2.0 * (texture - texture.mean()), 0.5, 1.5)[..., None]
        elif draw > 0.35:  # a gentle gradient of light
            slope = np.linspace(-1, 1, size)
            ground *= 1 - 0.06 * (1 + slope[:, None] * uniform(-1, 1) + slope[None] * uniform(-1, 1))[
                ..., None
            ].clip(0)
        image = Image.fromarray((ground.clip(0, 1) * 255).round().astype(np.uint8))
        article = "an" if colour[0] in "aeiou" else "a"
        return image, f"{'a textured' if textured else article} {colour} background"

    def captions(self, count: int) -> Iterator[str]:
        """`count` captions as training will see them, for the tokenizer's vocabulary."""
        for _ in range(count):
            yield self.composite(16)[1]
        yield from (caption for _, caption in self.photos if caption)


def to_unit(batch: list[Tensor]) -> Tensor:
    """uint8 (3, H, W) pictures -> float (B, 3, H, W) in [-1, 1]."""
    return torch.stack(batch).float().div_(127.5).sub_(1)


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


def _turn_hue(picture: Image.Image, degrees: float) -> Image.Image:
    hue, saturation, value = picture.convert("RGB").convert("HSV").split()
    hue = hue.point(lambda h: (h + round(degrees / 360 * 256)) % 256)
    turned = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    turned.putalpha(picture.getchannel("A"))
    return turned
