"""`invert --compare-noise`, and its figures for chance."""

import math

import pytest
import torch
from safetensors.torch import save_file

from invrecon.core.noise import resemblance
from tests.cli.fakes import FIELDS, photo, rows, run


def noise(seed, shape=(1, 4, 8, 8)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_noise_resembles_itself_and_independent_noise_as_chance_has_it():
    z = noise(0)
    same = resemblance(z, z)
    assert (same.distance, same.correlation) == pytest.approx((0, 1))
    assert same.chance < 1e-50
    others = [resemblance(z, noise(seed)) for seed in range(1, 401)]
    correlations = torch.tensor([one.correlation for one in others])
    assert correlations.std().item() == pytest.approx(1 / math.sqrt(z.numel()), rel=0.1)
    assert sum(one.chance < 0.1 for one in others) / 400 == pytest.approx(0.1, abs=0.04)
    assert sum(one.distance / one.chance_distance for one in others) / 400 == pytest.approx(1, abs=0.01)


def test_a_row_says_how_near_the_seed_is_to_the_key(fake):
    key = noise(1)
    save_file({"key": key}, "key.safetensors")
    invert = fake.invert

    def inverted(*arguments):
        result = invert(*arguments)
        result.seed.latents.copy_(0.9 * key)
        return result

    fake.invert = inverted
    result = run("invert", photo("a.png"), "--compare-noise", "key.safetensors", "--json")
    assert result.exit_code == 0, result.output
    [row] = rows(result)
    assert list(row) == [*FIELDS, "noise"]
    assert row["noise"]["correlation"] == pytest.approx(1)
    assert row["noise"]["chance"] < 1e-50
    told = run("invert", photo("b.png"), "--compare-noise", "key.safetensors").stdout
    assert "correlation with the key +1.0000" in told


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"a": noise(0), "b": noise(1)}, "has 2 tensors"),
        ({"a": torch.zeros(1, 4, 8, 8)}, "all zero"),
        ({"a": noise(0, (1, 4, 6, 8))}, "--size"),
    ],
)
def test_a_key_that_fits_no_seed_is_refused(fake, tensors, said):
    save_file(tensors, "key.safetensors")
    result = run("invert", photo("a.png"), "--compare-noise", "key.safetensors")
    assert result.exit_code == 1
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_key_and_resume_exclude_each_other(fake):
    assert run("invert", photo("a.png"), "--compare-noise", "a.safetensors", "--resume").exit_code == 2
