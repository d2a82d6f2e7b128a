"""The order of work that commands on photos share."""

from dataclasses import dataclass, replace

import pytest
from PIL import Image

from invrecon import Settings
from invrecon.errors import InputError, ModelError, UsageError
from invrecon.pipeline.run import only, run_photos

QUICK = Settings(size=64, num_inference_steps=2, boost=False)


@dataclass(frozen=True)
class Result:
    size: tuple[int, int]
    batch: int
    guidance_scale: float
    seconds: float = 0.0


@pytest.fixture
def paths(tmp_path):
    """Three photos, the middle one broken and one that isn't there."""
    for number in (0, 1, 2):
        Image.new("RGB", (64 + number, 64), (40 * number, 90, 200)).save(tmp_path / f"{number}.png")
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:40])
    return [tmp_path / name for name in ("0.png", "1.png", "nosuch.png", "2.png")]


def measure(run, subjects):
    assert all(subject.encoded.shape[-2:] == (8, 8) for subject in subjects)
    return [
        Result(subject.photo.rgb.size, len(subjects), run.settings.guidance_scale) for subject in subjects
    ]


def test_a_photo_that_cannot_be_used_leaves_with_its_error_and_the_others_are_done_together(mini, paths):
    first, broken, missing, last = run_photos(paths, measure, mini, QUICK)
    assert (first.size, last.size) == ((64, 64), (66, 64))
    assert first.batch == last.batch == 2
    assert first.seconds == last.seconds > 0
    for error, name in ((broken, "1.png"), (missing, "nosuch.png")):
        assert isinstance(error, InputError)
        assert name in str(error)


def test_without_a_photo_that_can_be_used_no_work_is_begun(mini, paths):
    results = run_photos(paths[1:3], lambda *_: pytest.fail("was begun"), mini, QUICK)
    assert [type(error) for error in results] == [InputError, InputError]


def test_settings_that_fit_no_photo_are_raised_before_any_is_read(mini):
    with pytest.raises(UsageError, match="end it after"):
        run_photos(["nosuch.png"], measure, mini, replace(QUICK, prompt="apple " * 100))


def test_what_the_work_raises_passes(mini, paths):
    def fail(run, subjects):
        raise ModelError("out of memory")

    with pytest.raises(ModelError, match="out of memory"):
        run_photos(paths, fail, mini, QUICK)


def test_each_photo_finds_a_guidance_scale_of_its_own(mini, paths):
    settings = replace(QUICK, auto_guidance=True, prompt="a red apple", max_guidance=1.0)
    searches = []

    def measure_alone(run, subjects):
        searches.append(run.search)
        assert run.settings.guidance_scale == run.search.guidance_scale == 1.0
        assert run.sampler.denoiser.guidance_scale == 1.0
        assert not run.settings.auto_guidance
        return measure(run, subjects)

    results = run_photos(paths, measure_alone, mini, settings)
    assert [one.batch for one in (results[0], results[3])] == [1, 1]
    assert isinstance(results[1], InputError)
    assert len(searches) == 2


def test_the_only_result_is_returned_and_the_only_error_raised():
    assert only(["result"]) == "result"
    with pytest.raises(InputError, match="broken"):
        only([InputError("broken")])
