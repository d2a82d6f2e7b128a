"""Photos in a batch come out as they would alone, on the command line."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from invrecon.cli.app import app


@pytest.fixture
def photos(photo):
    """Three photos of other shapes, the middle one broken."""
    flipped = photo.with_name("flipped.png")
    with Image.open(photo) as image:
        image.transpose(Image.Transpose.ROTATE_90).point(lambda v: 255 - v // 2).save(flipped)
    broken = photo.with_name("broken.png")
    broken.write_bytes(photo.read_bytes()[:300])
    return [photo, broken, flipped]


def test_the_command_line_gives_the_same_pictures_in_batches_as_one_by_one(photos, tmp_path):
    options = ["--size", "64", "--steps", "5", "--no-boost", "--device", "cpu", "--json"]
    results = {}
    for size in ("1", "3"):
        done = CliRunner().invoke(
            app,
            ["reconstruct", *map(str, photos), *options, "--batch-size", size, "--out", str(tmp_path / size)],
        )
        assert done.exit_code == 1
        assert len(done.stderr.splitlines()) == 1
        assert "broken.png" in done.stderr
        results[size] = [json.loads(line) for line in done.stdout.splitlines()]
    for alone, batched in zip(results["1"], results["3"], strict=True):
        assert (alone["input"], alone["error"], alone["evaluations"]) == (
            batched["input"],
            batched["error"],
            batched["evaluations"],
        )
        if alone["error"] is None:
            with Image.open(alone["output"]) as a, Image.open(batched["output"]) as b:
                assert np.abs(np.asarray(a, int) - np.asarray(b, int)).max() <= 1
    names = {path.name for path in (tmp_path / "3").iterdir()}
    assert names == {path.name for path in (tmp_path / "1").iterdir()}
    assert len(names) == 6
