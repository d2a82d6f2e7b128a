"""The table of settings: what each group checks, and what is derived from a field alone."""

import math
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
import pytest

from invrecon.errors import UsageError
from invrecon.settings import (
    EFFORTS,
    EditSettings,
    Effort,
    Imagining,
    Recipe,
    Settings,
    load_captions,
    load_settings,
    read_edit,
    settings_of,
)
from invrecon.settings.table import Group, documented, setting


@documented
@dataclass(frozen=True)
class Tea(Group):
    """A cup."""

    minutes: float | Literal["auto"] = setting("auto", "How long.", low=1, high=10)
    cups: int = setting(2, "How many.", low=2, high=12, multiple_of=2, flags=("--cups", "-c"))
    sort: Literal["black", "green"] = setting("black", "Which.")
    note: str | None = setting(None, "For whom.")
    milk: bool = setting(False, "Whether.")


def test_a_field_says_all_there_is_to_know_of_a_setting():
    table = settings_of(Tea)
    assert list(table) == ["minutes", "cups", "sort", "note", "milk"]
    assert [one.kind for one in table.values()] == [float, int, None, str, bool]
    assert [one.words for one in table.values()] == [("auto",), (), ("black", "green"), (), ()]
    assert [one.optional for one in table.values()] == [False, False, False, True, False]
    assert [one.flags for one in table.values()] == [
        ("--minutes",),
        ("--cups", "-c"),
        ("--sort",),
        ("--note",),
        ("--milk/--no-milk",),
    ]
    assert Tea.__doc__.splitlines()[-5] == "    minutes: How long."


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"minutes": 11}, "minutes must be auto or lie between 1 and 10, not 11"),
        ({"minutes": math.nan}, "minutes must be auto or lie between 1 and 10, not nan"),
        ({"minutes": "long"}, "minutes must be auto or of type float, not str"),
        ({"cups": 0}, "cups must lie between 2 and 12, not 0"),
        ({"cups": 5}, "cups must be a multiple of 2, not 5; try 4"),
        ({"cups": 4.0}, "cups must be of type int, not float"),
        ({"cups": True}, "cups must be of type int, not bool"),
        ({"sort": "white"}, "sort must be one of black, green, not 'white'"),
        ({"sort": None}, "sort must be of type str, not NoneType"),
        ({"note": 3}, "note must be of type str, not int"),
        ({"milk": 1}, "milk must be of type bool, not int"),
    ],
)
def test_a_value_that_a_setting_can_t_have_is_refused(given, text):
    with pytest.raises(UsageError) as caught:
        Tea(**given)
    assert str(caught.value) == text


def test_values_at_the_ends_and_numbers_of_numpy_are_taken():
    assert Tea(minutes=np.float32(1), cups=np.int64(12), note="for two", milk=True).cups == 12
    assert Tea(minutes=10, note=None).minutes == 10


def test_recipe_and_effort_are_parts_of_the_settings():
    settings = Settings(prompt="a cat", num_inference_steps=20, rtol=1e-4)
    assert settings.recipe(128, 96) == Recipe("a cat", num_inference_steps=20, width=128, height=96)
    assert settings.inversion_effort == Effort(rtol=1e-4)
    assert type(settings.inversion_effort) is Effort
    assert replace(settings, sampler="euler").recipe(64, 64).sampler == "euler"
    assert not {one.name for one in fields(Recipe)} & {one.name for one in fields(Effort)}


def test_the_standard_effort_is_the_defaults_and_all_set_the_same_settings():
    assert Settings(effort="standard") == Settings()
    assert len({tuple(values) for values in EFFORTS.values()}) == 1
    for name, value in EFFORTS["standard"].items():
        assert getattr(Settings(), name) == value


def test_an_effort_sets_what_is_not_given():
    quick = Settings(effort="quick", size=128)
    assert (quick.num_inference_steps, quick.mean_evaluations, quick.decoder_steps) == (25, 1.0, 10)
    assert (quick.effort, quick.size) == ("quick", 128)
    given = Settings(effort="quick", num_inference_steps=50, mean_evaluations=math.inf)
    assert (given.num_inference_steps, given.mean_evaluations, given.decoder_steps) == (50, math.inf, 10)
    assert replace(given, size=64).num_inference_steps == 50
    with pytest.raises(UsageError, match="effort must be one of quick, standard, best, not 'much'"):
        Settings(effort="much")


@pytest.mark.parametrize(
    ("preset", "given", "expected"),
    [
        ("", {"effort": "quick"}, (25, 10)),
        ("effort = 'quick'", {}, (25, 10)),
        ("effort = 'quick'\ndecoder_steps = 30", {}, (25, 30)),
        ("effort = 'quick'\ndecoder_steps = 30", {"num_inference_steps": 40}, (40, 30)),
        ("effort = 'quick'\ndecoder_steps = 30", {"effort": "best"}, (50, 160)),
        ("effort = 'best'", {"effort": "standard"}, (50, 60)),
        ("num_inference_steps = 20", {"effort": "quick", "decoder_steps": 5}, (25, 5)),
    ],
)
def test_what_is_said_last_and_what_is_said_exactly_win(tmp_path, preset, given, expected):
    path = tmp_path / "a.toml"
    path.write_text(preset)
    settings = load_settings(path, **given)
    assert (settings.num_inference_steps, settings.decoder_steps) == expected


@pytest.mark.parametrize(("effort", "steps"), [("quick", 4), ("best", 4), (None, 4)])
def test_an_effort_takes_no_more_steps_than_suit_the_model(effort, steps):
    settings = load_settings(None, lambda model: {"num_inference_steps": 4, "size": 512}, effort=effort)
    assert (settings.num_inference_steps, settings.size) == (steps, 512)


def test_every_setting_says_what_it_does():
    for group in (Settings, Imagining, EditSettings):
        for one in settings_of(group).values():
            assert one.help.endswith("."), one.name
            assert f"    {one.name}: {one.help}" in group.__doc__
        assert set(settings_of(group)) == {one.name for one in fields(group)}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"auto_guidance": True}, "guidance does nothing where prompt and negative prompt are alike"),
        ({"compile": True, "offload": "model"}, "a compiled network has to stay on its device"),
        ({"size": 100}, "size must be a multiple of 8, not 100; try 96"),
        ({"batch_size": 0}, "batch_size must be auto or lie between 1 and 1024, not 0"),
        ({"mean_evaluations": 0.5}, "mean_evaluations must lie between 1 and inf, not 0.5"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(given, text):
    with pytest.raises(UsageError, match=text):
        Settings(**given)


def test_presets_and_captions_may_begin_with_a_byte_order_mark(tmp_path):
    preset, captions = tmp_path / "a.toml", tmp_path / "a.json"
    preset.write_bytes("\ufeffsize = 128\nrtol = 1\n".encode())
    captions.write_bytes('\ufeff{"fig": "a fig"}'.encode())
    assert load_settings(preset) == Settings(size=128, rtol=1.0)
    assert type(load_settings(preset).rtol) is float
    assert load_captions(captions) == {"fig": "a fig"}
    preset.write_bytes('\ufefffig = "a fig"'.encode())
    assert load_captions(preset) == {"fig": "a fig"}


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("sizes = 1", "unknown setting 'sizes'"),
        ("size = 128.0", "size must be of type int, not float"),
        ("rtol = true", "rtol must be of type float, not bool"),
        ("solver = 1", "solver must be of type str, not int"),
        ("batch_size = 'many'", "batch_size must be auto or of type int, not str"),
    ],
)
def test_a_preset_is_checked_where_it_is_read(tmp_path, line, text):
    preset = tmp_path / "a.toml"
    preset.write_text(line)
    with pytest.raises(UsageError) as caught:
        load_settings(preset)
    assert str(caught.value).startswith(f"{preset}: {text}")


def test_an_edit_comes_back_from_its_header():
    edit = EditSettings("a dog", guidance_scale=5, weights={"dog": 2.0}, auto_mask=True, mask_threshold=0.4)
    assert read_edit(edit.header()) == edit
    for damage in (
        {},
        {"to": 1},
        {"to": "a", "mode": 3},
        {"to": "a", "weights": {"a": "b"}},
        {"to": "a", "x": 1},
    ):
        with pytest.raises(UsageError, match="damaged edit in the header"):
            read_edit(damage)


@pytest.mark.parametrize(("size", "exact"), [(256, None), ("320x208", (320, 208)), (np.int64(96), None)])
def test_a_size_is_a_budget_or_both_sides(size, exact):
    assert Settings(size=size).exact_size == exact


@pytest.mark.parametrize("size", ["320", "320x", "320x100", "32x64", "64x4096", 100, 32, 63.5, "64 x 64"])
def test_other_sizes_are_refused(size):
    with pytest.raises(UsageError, match="size must"):
        Settings(size=size)
