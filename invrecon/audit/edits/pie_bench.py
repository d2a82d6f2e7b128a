"""PIE-Bench (Ju et al. 2023, arXiv:2310.01506) on disk: photos, prompts and masks of what may change.

Its folder holds `mapping_file.json`, or a later one such as `mapping_file_v1.json`, and the photos below
`annotation_images/`. Users bring it; invrecon ships none of it.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from invrecon.errors import InputError, UsageError


@dataclass(frozen=True)
class Case:
    """One photo of the benchmark and what is asked of it.

    Args:
        name: its key in the mapping file.
        path: of the photo; `place` is that below `annotation_images`.
        source, target: the prompts before and after, without the brackets around the words that change.
        runs: of the mask: where one begins and how long it is, in turns.
    """

    name: str
    path: Path
    place: str
    source: str
    target: str
    runs: list[int]

    def mask(self, width: int, height: int) -> np.ndarray:
        """Where the edit may happen, (height, width), bool.

        As in the benchmark's own evaluation a run that goes beyond the end is cut there, and the outermost
        pixels belong to the mask, since annotations err at the border.

        Raises:
            InputError: the runs aren't those of a picture of this size.
        """
        flat = np.zeros(width * height, bool)
        for start, length in zip(self.runs[::2], self.runs[1::2], strict=True):
            if start >= flat.size:
                raise InputError(
                    f"{self.path}: its mask has a run at {start}, and the photo has {flat.size} pixels only: "
                    "use the benchmark's own photos, of 512 x 512 pixels"
                )
            flat[start : start + length] = True
        mask = flat.reshape(height, width)
        mask[[0, -1]] = True
        mask[:, [0, -1]] = True
        return mask


def read_benchmark(folder: Path) -> list[Case]:
    """The photos of the benchmark, in the order of its latest mapping file.

    Raises:
        UsageError: there is none, or it is damaged.
    """
    files = sorted(folder.glob("mapping_file*.json"), key=_version)
    if not files:
        raise UsageError(
            f"{folder}: has no mapping_file.json: name the folder of PIE-Bench that holds it and "
            "annotation_images"
        )
    path = files[-1]
    try:
        table = json.loads(path.read_text(encoding="utf-8-sig"))
        return [_case(folder, str(name), entry) for name, entry in table.items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"{path}: can't be read as PIE-Bench's mapping file ({error!r:.80}): fetch it again"
        ) from error


def _version(path: Path) -> tuple[int, ...]:
    """mapping_file.json, mapping_file_v1.json, ... mapping_file_v10.json, in that order."""
    return tuple(map(int, re.findall(r"\d+", path.stem)))


def _case(folder: Path, name: str, entry: dict[str, Any]) -> Case:
    place, root = str(entry["image_path"]), (folder / "annotation_images").resolve()
    if not (root / place).resolve().is_relative_to(root):
        raise ValueError(f"{name}: its image_path leads out of annotation_images")
    mask = entry["mask"]
    runs = [int(one) for one in (mask.split() if isinstance(mask, str) else mask)]
    if len(runs) % 2 or any(one < 0 for one in runs):
        raise ValueError(f"{name}: its mask has no length for each start")
    source, target = (_plain(entry[field]) for field in ("original_prompt", "editing_prompt"))
    return Case(name, folder / "annotation_images" / place, place, source, target, runs)


def _plain(prompt: str) -> str:
    return prompt.replace("[", "").replace("]", "")
