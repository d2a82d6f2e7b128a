"""Fifty damaged checkpoints, drawn anew at each run; `python -m tests.models.damage 1 SEED` shows one
again."""

import random

import pytest

from tests.models.damage import originals, trial


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return originals(tmp_path_factory.mktemp("originals"))


def test_no_damage_ends_in_an_internal_error(folders, tmp_path):
    seeds = random.sample(range(10**6), 50)
    failed = {seed: trial(folders, seed, tmp_path) for seed in seeds}
    failed = {seed: found for seed, found in failed.items() if found[1].startswith("FAILED")}
    assert not failed
