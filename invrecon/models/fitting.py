"""Whether a file that is to be loaded beside a checkpoint can be: what libraries say of it, on one line."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from invrecon.errors import ModelError
from invrecon.models.checks import is_finite
from invrecon.models.parts import telling_line
from invrecon.models.quiet import quiet

OTHER = "it was made for another kind of model, or is damaged; leave it out, or name its model with --model"


@contextmanager
def fitting(path: Path, kind: str) -> Iterator[None]:
    """Turns whatever the libraries raise where a file doesn't fit a pipeline into one line."""
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:  # peft, diffusers and torch each raise their own
        reason = telling_line(error).partition(": ")[0]
        told = f" ({reason})" if len(reason) < 120 else ""
        raise ModelError(f"{path} doesn't fit {kind}{told}: {OTHER}") from error


def check_finite(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Raises ModelError where a weight isn't a finite number."""
    for name, value in weights.items():
        if not is_finite(value):
            raise ModelError(
                f"{path} has weights that aren't finite ({name}): the file is damaged; fetch it again"
            )
