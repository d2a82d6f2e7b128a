"""A judge of what samples show: a small classifier of the ground's colour, the object's colour and its noun.

It is trained on composed scenes, by itself; no denoiser is ever trained against it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invrecon.training import checkpoint
from invrecon.training.clock import Clock
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
RATE = 3e-3


class Judge(nn.Module):
    """(B, 3, SIDE, SIDE) in [-1, 1] -> scores of ground colours, object colours and `nouns`."""

    def __init__(self, nouns: Sequence[str], width: int = 32) -> None:
        super().__init__()
        self.nouns = list(nouns)
        layers: list[nn.Module] = []
        channels = 3
        for i, strides in enumerate(((2,), (2, 1), (2, 1), (2, 1))):
            for stride in strides:
                layers += [
                    nn.Conv2d(channels, width << i, 3 if i else 5, stride, 1 if i else 2, bias=False),
                    nn.BatchNorm2d(width << i),
                    nn.ReLU(),
                ]
                channels = width << i
        self.features = nn.Sequential(*layers)
        self.heads = nn.ModuleList(
            nn.Linear(2 * channels, n) for n in (len(COLOURS), len(COLOURS), len(self.nouns))
        )

    def forward(self, pictures: Tensor) -> list[Tensor]:
        features = self.features(pictures)
        pooled = F.dropout(torch.cat((features.mean((2, 3)), features.amax((2, 3))), 1), 0.1, self.training)
        return [head(pooled) for head in self.heads]


@dataclass(frozen=True)
class Verdict:
    """Shares of pictures that show what they should."""

    ground: float
    colour: float
    noun: float


def train(
    corpus: Corpus, nouns: Sequence[str], state: Path, seconds: float, batch: int = 64, width: int = 32
) -> Judge:
    """Trains a judge, or goes on from `state`, on scenes of one object of `nouns` on a plain ground."""
    judge = checkpoint.placed(Judge(nouns, width), corpus.device)
    optimizer = torch.optim.AdamW(judge.parameters(), RATE, weight_decay=0.02)
    models, optimizers = {"judge": judge}, {"adam": optimizer}
    clock = Clock(corpus.device, seconds, *checkpoint.load(state, models, optimizers))
    while clock.running():
        optimizer.param_groups[0]["lr"] = RATE * clock.pace()
        pictures, targets = _batch(corpus, nouns, batch)
        scores = judge(_softened(pictures, corpus.random))
        loss = torch.stack([F.cross_entropy(s, t) for s, t in zip(scores, targets.T, strict=True)]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        clock.tick()
        if clock.due():
            checkpoint.save(state, clock.step, clock.spent, models, optimizers)
    return judge.eval()


def _softened(pictures: Tensor, random: Random) -> Tensor:
    """Half of the batches a little blurred and noisy, since samples are."""
    if random.random() < 0.5:
        return pictures
    small = F.interpolate(pictures, scale_factor=random.uniform(0.4, 1.0), mode="area")
    soft = F.interpolate(small, pictures.shape[-2:], mode="bilinear", align_corners=False)
    return soft + random.uniform(0, 0.1) * torch.randn_like(soft)


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
