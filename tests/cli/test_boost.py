"""`invrecon boost`, and which commands boost."""

import os
from pathlib import Path

import pytest

from tests.cli.fakes import photo, rows, run


def test_boost_takes_photos_and_seed_files_with_their_photos(fake):
    assert run("invert", photo("x.png")).exit_code == 0
    result = run("boost", "x.seed.safetensors", "--photo", "x.png", "--out", "b", "--json")
    assert result.exit_code == 0, result.output
    assert sorted(os.listdir("b")) == ["x.boosted.png", "x.boosted.seed.safetensors"]
    assert fake.photo == Path("x.png")
    assert (rows(result)[0]["lbo_psnr"], rows(result)[0]["ilb_psnr"], rows(result)[0]["plain_seed_norm"]) == (
        29,
        21,
        1.1,
    )
    assert run("boost", photo("y.png"), "--out", "b").exit_code == 0
    assert fake.batches[-1] == ["y.png"]
    assert fake.settings.boost


@pytest.mark.parametrize("photos", [[], ["--photo", "a.png", "--photo", "b.png"]])
def test_boost_wants_one_photo_for_each_seed_file(fake, photos):
    assert run("invert", photo("x.png")).exit_code == 0
    result = run("boost", "x.seed.safetensors", *photos)
    assert result.exit_code == 2
    assert "as many --photo" in result.stderr


def test_reconstruct_boosts_unless_told_not_to_and_invert_only_if_told(fake):
    for arguments, boosts in (
        (["reconstruct"], True),
        (["reconstruct", "--no-boost"], False),
        (["reconstruct", "--config", "no.toml"], False),
        (["reconstruct", "--config", "no.toml", "--boost"], True),
        (["invert"], False),
        (["invert", "--boost"], True),
    ):
        Path("no.toml").write_text("boost = false")
        assert run(*arguments, photo("x.png"), "--force").exit_code == 0
        assert fake.settings.boost is boosts
