"""Training pictures, made in batches on the device: crops of photos, and composed scenes whose captions name
what they show (objects, their colours and places, the ground).
"""

import colorsys
import json
import math
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from invrecon.training.cutouts import COLOURS, PAINTS, Cutout, cutout, painted


def article(phrase: str) -> str:
    """'apple' -> 'an apple', 'red cherries' -> 'red cherries'."""
    if phrase.endswith("s") and not phrase.endswith(("ss", "us")):
        return phrase
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


@dataclass(frozen=True)
class Placed:
    """A cut-out in a scene: its centre in the scene's width and height, the object's longest side in the
    scene's shorter side.
    """

    cutout: Cutout
    centre: tuple[float, float]
    side: float
    flipped: bool


@dataclass(frozen=True)
class Ground:
    """Behind the objects: a colour with light from one side, a texture on it, or a crop of a photo."""

    colour: str
    rgb: tuple[float, float, float]
    slope: tuple[float, float]
    texture: int | None = None
    photo: tuple[Tensor, str] | None = None

    def phrase(self) -> str:
        if self.photo is not None:
            return f"in front of {self.photo[1]}" if self.photo[1] else "on a photo background"
        described = self.colour if self.texture is None else f"textured {self.colour}"
        return f"on {article(described)} background"


@dataclass(frozen=True)
class Scene:
    """Objects on a ground, and the sentence that says so.

    Attributes:
        coloured: whether the sentence names the objects' colours.
        brief: whether it names an object by the last word of its noun.
    """

    objects: tuple[Placed, ...]
    ground: Ground
    shadow: bool
    opening: str
    coloured: bool
    brief: bool

    def caption(self) -> str:
        things = [article(self._thing(placed.cutout)) for placed in self.objects]
        if len(things) == 1:
            text = things[0] + _place(self.objects[0])
        elif len(things) == 2:
            side_by_side = abs(self.objects[0].centre[0] - self.objects[1].centre[0]) > 0.2
            words = ("on the left", "on the right") if side_by_side else ("at the top", "at the bottom")
            text = f"{things[0]} {words[0]} and {things[1]} {words[1]}"
        else:
            text = f"{', '.join(things[:-1])} and {things[-1]}"
        return f"{self.opening}{text} {self.ground.phrase()}{' with a shadow' if self.shadow else ''}"

    def _thing(self, cutout: Cutout) -> str:
        noun = cutout.noun.split()[-1] if self.brief else cutout.noun
        return f"{cutout.colour} {noun}" if self.coloured and cutout.colour not in noun else noun


def _place(placed: Placed) -> str:
    x, y = placed.centre
    if abs(x - 0.5) >= max(abs(y - 0.5), 0.13):
        return " on the left" if x < 0.5 else " on the right"
    return "" if abs(y - 0.5) < 0.13 else " at the top" if y < 0.5 else " at the bottom"


class Corpus:
    """The prepared pictures in a device's memory.

    Args:
        folder: what `prepare` wrote.
        seed: of all random choices.
        device: where the pictures are kept and composed.
        paints: in how many colours beside its own each colourful object is kept.
    """

    def __init__(self, folder: Path, seed: int = 0, device: str = "cpu", paints: int = 4) -> None:
        self.random = random.Random(seed)
        self.device = torch.device(device)
        index = json.loads((folder / "index.json").read_text())
        with ThreadPoolExecutor() as pool:
            pictures = dict(zip(index, pool.map(lambda name: _read(folder / name), index), strict=True))
        of = {kind: [n for n in index if n.startswith(kind)] for kind in ("photos", "textures", "cutouts")}
        self.photos = [(pictures[n].to(self.device), index[n]["caption"]) for n in of["photos"]]
        self.textures = [_grey_tile(pictures[n]).to(self.device) for n in of["textures"]]
        self.objects: list[list[Cutout]] = []
        """For each cut-out its colours, the first its own."""
        self.weights = [index[n]["weight"] for n in of["cutouts"]]
        for name in of["cutouts"]:
            own = cutout(pictures[name].to(self.device), index[name]["caption"])

            others = self.random.sample(PAINTS, paints) if own.colour in PAINTS else []
            self.objects.append([own, *(painted(own, colour) for colour in others if colour != own.colour)])

    def photo(self, height: int, width: int, captioned: bool = False) -> tuple[Tensor, str]:
        """A crop of a photo, uint8 (3, height, width): from texture to the whole scene; with its caption."""
        while True:
            picture, caption = self.random.choice(self.photos)
            if caption or not captioned:
                break
        largest = min(picture.shape[1] / height, picture.shape[2] / width)
        scale = self.random.uniform(min(1.0, largest), largest)
        rows, columns = max(1, int(height * scale)), max(1, int(width * scale))
        top = self.random.randint(0, picture.shape[1] - rows)
        left = self.random.randint(0, picture.shape[2] - columns)
        crop = picture[:, top : top + rows, left : left + columns]
        if (rows, columns) != (height, width):
            crop = F.interpolate(
                crop[None].float(), (height, width), mode="bicubic", antialias=True, align_corners=False
            )[0]
            crop = crop.round().clamp(0, 255).to(torch.uint8)
        return (crop.flip(2) if self.random.random() < 0.5 else crop), caption

    def scenes(self, count: int, height: int, width: int) -> list[Scene]:
        """Scenes to be rendered at height x width. Every fourth differs from the one before in one word."""
        drawn: list[Scene] = []
        while len(drawn) < count:
            scene = self._scene(height, width)
            drawn += [scene, self._twin(scene)] if len(drawn) % 4 == 2 else [scene]
        return drawn[:count]

    def render(self, scenes: Sequence[Scene], height: int, width: int) -> Tensor:
        """uint8 (B, 3, height, width). Objects are drawn at twice the size, then averaged."""
        canvas = torch.stack([self._ground_pixels(scene.ground, height, width) for scene in scenes])
        for layer in range(max(len(scene.objects) for scene in scenes)):
            drawn = [
                (i, scene.objects[layer]) for i, scene in enumerate(scenes) if layer < len(scene.objects)
            ]
            rows = torch.tensor([i for i, _ in drawn], device=self.device)
            pixels, alpha = _layer([placed for _, placed in drawn], height, width)
            shadowed = torch.tensor([float(scenes[i].shadow) for i, _ in drawn], device=self.device)
            shade = 0.5 * shadowed[:, None, None, None] * _shadow(alpha)
            canvas[rows] = canvas[rows] * (1 - shade) * (1 - alpha) + pixels * alpha
        return (canvas.clamp(0, 1) * 255).round().to(torch.uint8)

    def composed(self, count: int, height: int, width: int) -> tuple[Tensor, list[str]]:
        """Rendered scenes with their captions."""
        scenes = self.scenes(count, height, width)
        return self.render(scenes, height, width), [scene.caption() for scene in scenes]

    def captions(self, count: int) -> Iterator[str]:
        """Captions as training will see them, for the tokenizer's vocabulary."""
        yield from (scene.caption() for scene in self.scenes(count, 128, 128))
        yield from (caption for _, caption in self.photos if caption)

    def cutout(self) -> Cutout:
        (colours,) = self.random.choices(self.objects, self.weights)
        return self.random.choice(colours)

    def _scene(self, height: int, width: int) -> Scene:
        (number,) = self.random.choices((1, 2, 3), (0.7, 0.25, 0.05))
        cutouts = [self.cutout() for _ in range(number)]
        return Scene(
            objects=tuple(self._placed(c, i, number, width / height) for i, c in enumerate(cutouts)),
            ground=self._ground(height, width),
            shadow=self.random.random() < 0.3,
            opening=self.random.choice(("a photo of ", "a photo of ", "")),
            coloured=self.random.random() < 0.85,
            brief=self.random.random() < 0.4,
        )

    def single(self, cutout: Cutout, colour: str, height: int, width: int) -> Scene:
        """One object on a ground of one colour."""
        scene = self._scene(height, width)
        placed = self._placed(cutout, 0, 1, width / height)
        return replace(scene, objects=(placed,), ground=self._plain(colour))

    def _placed(self, cutout: Cutout, i: int, number: int, ratio: float) -> Placed:
        """Object i of `number`: one anywhere, mostly near the middle; several in a row along the longer side.
        `ratio` is the scene's width by height.
        """
        sides = (max(1.0, ratio), max(1.0, 1 / ratio))  # of the scene, in its shorter side
        if number == 1:
            side = self.random.uniform(0.45, 0.95)
            centre = [self.random.gauss(0.5, 0.15) for _ in range(2)]
        else:
            side = self.random.uniform(0.75, 0.95) * max(sides) / number
            along = (i + 0.5) / number
            across = self.random.gauss(0.5, 0.1)
            lying = ratio > 1 or (ratio == 1 and self.random.random() < 0.7)
            centre = [along, across] if lying else [across, along]
            side = min(side, 0.95)
        for axis in range(2):
            margin = min(0.5, side * cutout.extent[axis] / max(cutout.extent) / sides[axis] / 2)
            centre[axis] = min(1 - margin, max(margin, centre[axis]))
        return Placed(cutout, (centre[0], centre[1]), side, self.random.random() < 0.5)

    def _ground(self, height: int, width: int) -> Ground:
        """Plain, textured, or a crop of a photo."""
        plain = self._plain(self.random.choice((*COLOURS, "white", "blue", "green", "red")))
        draw = self.random.random()
        if draw < 0.25:
            return replace(plain, photo=self.photo(height, width))
        if draw < 0.35 and self.textures:
            return replace(plain, texture=self.random.randrange(len(self.textures)))
        return plain

    def _plain(self, colour: str) -> Ground:
        """A ground of one colour, two in three lit from one side."""
        (h0, h1), (s0, s1), (v0, v1) = COLOURS[colour]
        uniform = self.random.uniform
        rgb = colorsys.hsv_to_rgb(uniform(h0, h1) / 360 % 1, uniform(s0, s1), uniform(v0, v1))
        lit = self.random.random() < 2 / 3
        return Ground(colour, rgb, (uniform(-1, 1), uniform(-1, 1)) if lit else (0.0, 0.0))

    def _twin(self, scene: Scene) -> Scene:
        """The same scene but for one word: a colour of an object or of the ground, or an object."""
        first = scene.objects[0]
        others = next(colours for colours in self.objects if first.cutout in colours)
        draw = self.random.random()
        if draw < 0.4 and scene.ground.photo is None:
            ground = self._plain(self.random.choice([c for c in COLOURS if c != scene.ground.colour]))
            return replace(scene, ground=replace(scene.ground, colour=ground.colour, rgb=ground.rgb))
        other = self.random.choice(others) if draw < 0.8 else self.cutout()
        return replace(scene, objects=(replace(first, cutout=other), *scene.objects[1:]))

    def _ground_pixels(self, ground: Ground, height: int, width: int) -> Tensor:
        """(3, height, width) in [0, 1]."""
        if ground.photo is not None:
            return ground.photo[0].float() / 255
        rgb = torch.tensor(ground.rgb, device=self.device)[:, None, None]
        down = torch.linspace(-1, 1, height, device=self.device)[:, None] * ground.slope[0]
        across = torch.linspace(-1, 1, width, device=self.device) * ground.slope[1]
        pixels = rgb * (1 - 0.06 * (1 + down + across).clamp(min=0))
        if ground.texture is not None:
            tile = self.textures[ground.texture]
            copies = math.ceil(height / tile.shape[0]), math.ceil(width / tile.shape[1])
            tile = tile.repeat(copies)[:height, :width]
            pixels = pixels * (1 + 2 * (tile - tile.mean())).clamp(0.5, 1.5)
        return pixels


def to_unit(pictures: Tensor) -> Tensor:
    """uint8 -> float in [-1, 1], channels last in memory."""
    return pictures.float().div_(127.5).sub_(1).contiguous(memory_format=torch.channels_last)


def _read(path: Path) -> Tensor:
    """uint8 (3, H, W), or (4, H, W) of a cut-out."""
    image = Image.open(path).convert("RGBA" if path.parent.name == "cutouts" else "RGB")
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def _grey_tile(picture: Tensor) -> Tensor:
    """(256, 256) in [0, 1]."""
    return F.interpolate(picture[None, :3].float() / 255, (256, 256), mode="area")[0].mean(0)


def _layer(placed: Sequence[Placed], height: int, width: int) -> tuple[Tensor, Tensor]:
    """Objects alone on scenes of height x width: colours (B, 3, H, W) and opacity (B, 1, H, W), in [0, 1]."""
    pictures = torch.stack([o.cutout.picture for o in placed]).float() / 255
    pictures = torch.cat([pictures[:, :3] * pictures[:, 3:], pictures[:, 3:]], dim=1)
    theta = []
    for o in placed:
        side = o.side * min(height, width) / max(o.cutout.extent)
        across, down = width / side, height / side
        x, y = 2 * o.centre[0] - 1, 2 * o.centre[1] - 1
        mirror = -1 if o.flipped else 1
        theta.append([[mirror * across, 0, -mirror * across * x], [0, down, -down * y]])
    size = (len(placed), 4, 2 * height, 2 * width)
    grid = F.affine_grid(torch.tensor(theta, device=pictures.device), list(size), align_corners=False)
    drawn = F.avg_pool2d(F.grid_sample(pictures, grid, align_corners=False), 2)
    alpha = drawn[:, 3:]
    return drawn[:, :3] / alpha.clamp(min=1e-4), alpha


def _shadow(alpha: Tensor) -> Tensor:
    """A soft shadow below and to the right of an opaque shape, (B, 1, H, W)."""
    reach = max(1, min(alpha.shape[-2:]) // 24)
    moved = F.pad(alpha, (reach, 0, reach, 0))[..., : alpha.shape[-2], : alpha.shape[-1]]
    for _ in range(2):
        moved = F.avg_pool2d(moved, 2 * reach + 1, 1, reach, count_include_pad=False)
    return moved
