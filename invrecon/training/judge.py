"""A judge of what samples show: a small classifier of the ground's colour, the object's colour and its noun.

It is trained on composed scenes, by itself; no denoiser is ever trained against it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from invrecon.training.cutouts import COLOURS, PAINTS, Cutout
from invrecon.training.scenes import Corpus, Scene, article, to_unit

SIDE = 96
"""Pictures are judged at SIDE x SIDE pixels."""
NOUNS = (
    *(
        "apple",
        "banana",
        "pear",
        "orange",
        "strawberry",
        "lemon",
        "pineapple",
        "pepper",
        "grapes",
        "cherries",
    ),
    *("peach", "carrot", "corn", "mushroom", "broccoli", "onion", "flower", "truck", "balloon", "car"),
)
"""The objects that it tells apart."""


class Judge(nn.Module):
    """(B, 3, SIDE, SIDE) in [-1, 1] -> scores of ground colours, object colours and `nouns`."""

    def __init__(self, nouns: Sequence[str], width: int = 48) -> None:
        super().__init__()
        self.nouns = list(nouns)
        layers: list[nn.Module] = []
        channels = 3
        for i in range(4):
            for stride in (1, 2):
                layers += [
                    nn.Conv2d(channels, width << min(i, 2), 3, stride, 1),
                    nn.BatchNorm2d(width << min(i, 2)),
                    nn.ReLU(),
                ]
                channels = width << min(i, 2)
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Dropout(0.2))
        self.ground = nn.Linear(9 * channels, len(COLOURS))
        self.colour = nn.Linear(9 * channels, len(COLOURS))
        self.noun = nn.Linear(9 * channels, len(self.nouns))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.features(pictures)
        return self.ground(features), self.colour(features), self.noun(features)

    def save(self, path: Path) -> None:
        save_file(self.state_dict(), path, {"nouns": ",".join(self.nouns)})


def load(path: Path, nouns: Sequence[str]) -> Judge:
    """The judge that `Judge.save` wrote."""
    judge = Judge(nouns)
    judge.load_state_dict(load_file(path))
    return judge.eval()


@dataclass(frozen=True)
class Verdict:
    """Shares of pictures that show what they should."""

    ground: float
    colour: float
    noun: float


def train(corpus: Corpus, nouns: Sequence[str], steps: int = 400, batch: int = 128, width: int = 48) -> Judge:
    """Trains a judge on scenes of one object of `nouns` on a ground of one colour."""
    judge = Judge(nouns, width).to(corpus.device)
    optimizer = torch.optim.AdamW(judge.parameters(), 2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in range(steps):
        pictures, targets = _batch(corpus, nouns, batch)
        scores = judge(pictures)
        loss = torch.stack([F.cross_entropy(s, t) for s, t in zip(scores, targets.T, strict=True)]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return judge.eval()


@torch.no_grad()
def on_scenes(judge: Judge, corpus: Corpus, batches: int = 8) -> Verdict:
    """How far the judge itself can be trusted: its verdict on composed scenes that it was not trained on."""
    right = [
        _right(judge, pictures, targets)
        for pictures, targets in (_batch(corpus, judge.nouns, 128) for _ in range(batches))
    ]
    return _verdict(torch.cat(right))


@torch.no_grad()
def on_samples(
    judge: Judge,
    pipeline: Any,
    corpus: Corpus,
    count: int = 200,
    guidance_scale: float = 3.0,
    side: int = 128,
) -> Verdict:
    """The verdict on `count` samples of 'a photo of a COLOUR NOUN on a COLOUR background'."""
    right = []
    generator = torch.Generator().manual_seed(5)
    for start in range(0, count, 20):
        wanted = [_wanted(corpus, judge.nouns) for _ in range(min(20, count - start))]
        prompts = [f"a photo of {article(f'{c} {n}')} on {article(g)} background" for g, c, n in wanted]
        output = pipeline(
            prompts,
            height=side,
            width=side,
            guidance_scale=guidance_scale,
            num_inference_steps=25,
            generator=generator,
            output_type="pt",
        ).images
        pictures = F.interpolate(output.float() * 2 - 1, (SIDE, SIDE), mode="area")
        right.append(_right(judge, pictures, _targets(wanted, judge.nouns, pictures.device)))
    return _verdict(torch.cat(right))


def _wanted(corpus: Corpus, nouns: Sequence[str]) -> tuple[str, str, str]:
    """Colour of the ground, colour of the object (another one) and noun."""
    colour = corpus.random.choice(PAINTS)
    ground = corpus.random.choice([c for c in COLOURS if c != colour])
    return ground, colour, corpus.random.choice(nouns)


def _batch(corpus: Corpus, nouns: Sequence[str], count: int) -> tuple[Tensor, Tensor]:
    named: dict[str, list[list[Cutout]]] = {noun: [] for noun in nouns}
    for colours in corpus.objects:
        if (noun := colours[0].noun.split()[-1]) in named:
            named[noun].append(colours)
    scenes: list[Scene] = []
    wanted: list[tuple[str, str, str]] = []
    while len(scenes) < count:
        ground, _, noun = _wanted(corpus, nouns)
        cutout = corpus.random.choice(corpus.random.choice(named[noun]))
        scene = corpus.single(cutout, ground, SIDE, SIDE)
        scenes.append(scene)
        wanted.append((ground, cutout.colour, noun))
    pictures = to_unit(corpus.render(scenes, SIDE, SIDE))
    return pictures, _targets(wanted, nouns, pictures.device)


def _targets(wanted: Sequence[tuple[str, str, str]], nouns: Sequence[str], device: torch.device) -> Tensor:
    """(B, 3): numbers of the ground's colour, the object's colour and the noun."""
    colours = list(COLOURS)
    return torch.tensor(
        [[colours.index(g), colours.index(c), list(nouns).index(n)] for g, c, n in wanted], device=device
    )


def _right(judge: Judge, pictures: Tensor, targets: Tensor) -> Tensor:
    said = [scores.argmax(1) for scores in judge(pictures.to(next(judge.parameters()).device))]
    return torch.stack(said, dim=1).cpu() == targets.cpu()


def _verdict(right: Tensor) -> Verdict:
    ground, colour, noun = right.float().mean(dim=0).tolist()
    return Verdict(ground, colour, noun)
