"""Fifty damaged checkpoints, drawn anew at each run; `python -m tests.models.damage 1 SEED` shows one
again."""

import random

import pytest

from tests.models.damage import originals, trial


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return originals(tmp_path_factory.mktemp("originals"))


def test_no_damage_ends_in_an_internal_error(folders, tmp_path):
    first = random.randrange(10**6)
    print(f"python -m tests.models.damage 50 {first}")  # shown where it fails
    for seed in range(first, first + 50):
        done, result = trial(folders, seed, tmp_path)
        assert not result.startswith("FAILED"), (seed, done, result)
