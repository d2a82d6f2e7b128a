"""Options and presets: what they set, which one counts, and what is refused."""

from pathlib import Path

import pytest

from tests.cli.fakes import photo, run


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[("--batch-size", value) for value in ("0", "-1", "2.5", "many")],
        *[("--proximal-weight", value) for value in ("-1", "nan", "light")],
    ],
)
def test_a_number_that_may_be_auto_but_is_neither_exits_2(fake, option, value):
    assert run("invert", photo("x.png"), option, value).exit_code == 2
    assert fake.done == []


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("batch_size", "4", 4),
        ("batch_size", '"auto"', "auto"),
        ("proximal_weight", "1", 1.0),
        ("proximal_weight", '"auto"', "auto"),
    ],
)
def test_a_preset_may_hold_a_number_or_the_word_auto(fake, name, text, value):
    Path("preset.toml").write_text(f"{name} = {text}")
    assert run("invert", photo("x.png"), "--config", "preset.toml").exit_code == 0
    assert getattr(fake.settings, name) == value
    for wrong in ("true", '"many"'):
        Path("preset.toml").write_text(f"{name} = {wrong}")
        assert run("invert", photo("x.png"), "--config", "preset.toml", "--force").exit_code == 2
    Path("preset.toml").write_text('rtol = "auto"')
    assert run("invert", photo("x.png"), "--config", "preset.toml", "--force").exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("--size", "100"),
        ("--steps", "0"),
        ("--rtol", "nan"),
        ("--solver", "newton"),
        ("--config", "nosuch.toml"),
        ("--config", "broken.toml"),
        ("--config", "unknown.toml"),
        ("--out", "file/below"),
        ("--model", "nosuch"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line_and_exits_2(fake, arguments):
    Path("broken.toml").write_text("size = ")
    Path("unknown.toml").write_text("sise = 128")
    Path("file").touch()
    result = run("reconstruct", photo("x.png"), *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("invrecon: ")
    assert fake.done == []


@pytest.mark.parametrize(
    "arguments",
    [("reconstruct",), ("invert", "x.png", "--nosuch"), ("invert", "x.png", "--steps", "many"), ("nosuch",)],
)
def test_a_bad_command_line_exits_2(fake, arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert fake.loaded == []


def test_options_override_the_preset_which_overrides_the_defaults(fake):
    Path("preset.toml").write_text(
        'num_inference_steps = 7\nsize = 128\nguidance_scale = 2\nprompt = "a cat"'
    )
    assert (
        run(
            "invert",
            photo("x.png"),
            "--config",
            "preset.toml",
            "--steps",
            "9",
            "--device",
            "cpu",
            "--prompt",
            "",
        ).exit_code
        == 0
    )
    settings = fake.settings
    assert (settings.num_inference_steps, settings.size, settings.guidance_scale, settings.prompt) == (
        9,
        128,
        2.0,
        "",
    )
    assert settings.max_evaluations == 60
    assert fake.loaded == [("mini", "cpu", "auto")]


@pytest.mark.parametrize(
    ("option", "value", "name"),
    [
        ("--model", "folder", "model"),
        ("--prompt", "a cat", "prompt"),
        ("--negative-prompt", "a dog", "negative_prompt"),
        ("--steps", 9, "num_inference_steps"),
        ("--guidance-scale", 2.5, "guidance_scale"),
        ("--guidance-loss", 0.25, "guidance_loss"),
        ("--max-guidance", 7, "max_guidance"),
        ("--solver", "picard", "solver"),
        ("--rtol", 0.5, "rtol"),
        ("--max-evaluations", 3, "max_evaluations"),
        ("--mean-evaluations", 2.5, "mean_evaluations"),
        ("--size", 64, "size"),
        ("--fit", "pad", "fit"),
        ("--device", "cpu", "device"),
        ("--dtype", "bfloat16", "dtype"),
        ("--proximal-weight", 0.5, "proximal_weight"),
        ("--proximal-weight", "auto", "proximal_weight"),
        ("--batch-size", 4, "batch_size"),
        ("--batch-size", "auto", "batch_size"),
        ("--seed", 5, "seed"),
    ],
)
@pytest.mark.parametrize("command", ["invert", "reconstruct"])
def test_every_setting_has_its_option(fake, command, option, value, name):
    assert run(command, photo("x.png"), option, str(value)).exit_code == 0
    assert getattr(fake.settings, name) == value


def test_configs_in_the_repository_are_valid_and_mini_spells_out_every_default():
    from invrecon.settings import Settings, load_settings

    configs = Path(__file__).parents[2] / "configs"
    assert load_settings(configs / "mini.toml") == Settings()
    assert set(vars(Settings())) == {
        line.split(" ")[0] for line in (configs / "mini.toml").read_text().splitlines() if line[:1].isalpha()
    }
    smoke = load_settings(configs / "smoke.toml")
    assert (smoke.model, smoke.size, smoke.num_inference_steps) == ("mini", 128, 25)


@pytest.mark.parametrize("option", ["--prompt", "--negative-prompt"])
def test_a_prompt_that_is_no_valid_text_is_one_line_and_exits_2(fake, option):
    result = run("invert", photo("x.png"), option, "a caf\udce9")
    name = option[2:].replace("-", "_")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"invrecon: {name} isn't valid text: 'a caf\\udce9'")
    assert len(result.stderr.splitlines()) == 1
    assert fake.loaded == []
