"""The command line: what it prints where, what it writes, and what it exits with. The pipeline is a fake that works at once."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from invrecon.cli.app import app
from invrecon.core.health import Health
from invrecon.errors import InputError, InvreconError, ModelError, UsageError
from invrecon.pipeline.verification import Losses, Variant, Verification
from invrecon.seedfile import Seed, load_seed

FILES = ["output", "seed_file", "compare_file"]
QUALITY = ["psnr", "ssim", "encoder_ceiling_db", "decoder_ceiling_db", "ddim_psnr", "lbo_psnr", "ilb_psnr"]
LATENTS = ["latent_fidelity_db", "ddim_latent_fidelity_db"]
EFFORT = ["steps", "converged_steps", "evaluations", "evaluations_per_step"]
HEALTH = [
    f"{plain}seed_{name}" for name in ("norm", "autocorrelation", "normality") for plain in ("plain_", "")
]
FIELDS = [
    "input",
    *FILES,
    *QUALITY,
    *LATENTS,
    *EFFORT,
    *HEALTH,
    "seconds",
    "guidance_scale",
    "guidance_curve",
    "resumed",
    "error",
]


class Pipeline:
    """Stands in for the models and the pipeline; notes what it was asked, and raises what a test plants for an input's name."""

    def __init__(self):
        self.loaded, self.done, self.settings, self.raises = [], [], None, {}
        self.psnr, self.advice, self.photo, self.batches = 30.0, None, None, []

    def load_model(self, name, device="auto", dtype="float32", **_):
        self.loaded.append((name, device, dtype))
        if name == "nosuch":
            raise ModelError("no model 'nosuch'")
        return SimpleNamespace(name=name, fingerprint="0", device="cpu")

    def invert(self, photo, model, settings, on_progress=None):
        self.settings = settings
        self.done.append(photo.name)
        on_progress("inverting", 1, 2)
        if photo.name in self.raises:
            raise self.raises[photo.name]
        seed = Seed(torch.zeros(1, 4, 8, 8), torch.zeros(1, 4, 8, 8), _header())
        effort = {
            "steps": 50,
            "converged_steps": 49,
            "evaluations": 400,
            "evaluations_per_step": 8.0,
            "seconds": 1.5,
        }
        return SimpleNamespace(
            seed=seed,
            guidance=None,
            **effort,
            health=Health(1.0, 0.0, 0.01),
            plain_health=Health(1.1, 0.1, 0.02),
            advice=self.advice,
        )

    def invert_batch(self, photos, model, settings, on_progress=None):
        self.batches.append([photo.name for photo in photos])
        return [self.attempt(self.invert, photo, model, settings, on_progress) for photo in photos]

    def reconstruct_batch(self, photos, model, settings, on_progress=None):
        self.batches.append([photo.name for photo in photos])
        return [self.attempt(self.reconstruct, photo, model, settings, on_progress) for photo in photos]

    def attempt(self, work, *arguments):
        try:
            return work(*arguments)
        except InvreconError as error:
            if isinstance(error, (UsageError, ModelError)):
                raise
            return error

    def reconstruct(self, source, model, settings, on_progress=None):
        inversion = self.invert(source, model, settings, on_progress)
        square = Image.new("RGB", (16, 16), "red")
        common = {
            "seed": inversion.seed,
            "picture": square,
            "square": square,
            "latent_fidelity_db": 60.0,
            "seconds": 2.5,
        }
        figures = {
            "psnr": self.psnr,
            "ssim": 0.9,
            "encoder_ceiling_db": 31.0,
            "ddim_psnr": 20.0,
            "ddim_latent_fidelity_db": 12.0,
        }
        figures |= {"lbo_psnr": 29.0, "ilb_psnr": 21.0, "decoder_ceiling_db": None}
        of_photos = figures | {
            "inversion": inversion,
            "original": square,
            "autoencoded": square,
            "ddim": square,
        }
        return SimpleNamespace(
            **common, **(dict.fromkeys(of_photos) if source.suffix == ".safetensors" else of_photos)
        )

    def boost(self, source, model, settings, on_progress=None, *, photo=None):
        self.photo = photo
        return self.reconstruct(photo or source, model, settings, on_progress)

    def verify(self, seed_file, photo, model, on_progress=None, *, matrix=False):
        self.done.append(seed_file.name)
        losses = Losses(27.0, 29.0, 28.9, 28.8, 28.7)
        variants = (
            [Variant("DDIM", 5, "float32", 20.0), Variant("Euler", 10, "float32", float("nan"))]
            if matrix
            else []
        )
        return Verification(Image.new("RGB", (16, 16)), self.psnr, 0.9, 60.0, losses, 1.0, variants)


def _header():
    settings = {
        "prompt": "",
        "negative_prompt": "",
        "guidance_scale": 1.0,
        "num_inference_steps": 1,
        "dtype": "float32",
        "size": 64,
    }
    return {"format": 1, "model": "mini", "fingerprint": "0", "scheduler": {}, "timesteps": [1]} | settings


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INVRECON_DEBUG", raising=False)
    return tmp_path


@pytest.fixture
def fake(monkeypatch):
    import invrecon.models
    import invrecon.pipeline

    fake = Pipeline()
    monkeypatch.setattr(invrecon.models, "load_model", fake.load_model)
    monkeypatch.setattr(invrecon.pipeline, "invert_batch", fake.invert_batch)
    monkeypatch.setattr(invrecon.pipeline, "reconstruct_batch", fake.reconstruct_batch)
    monkeypatch.setattr(
        invrecon.pipeline,
        "batch_size",
        lambda _, settings: 1 if settings.batch_size == "auto" else settings.batch_size,
    )
    monkeypatch.setattr(invrecon.pipeline, "reconstruct", fake.reconstruct)
    monkeypatch.setattr(invrecon.pipeline, "boost", fake.boost)
    monkeypatch.setattr(invrecon.pipeline, "verify", fake.verify)
    return fake


def photo(name: str) -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16), "red").save(name, format="PNG")
    return name


def picture(name: str) -> Image.Image:
    with Image.open(name) as image:
        return image.convert("RGB")


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def rows(result) -> list[dict]:
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in result.stdout.splitlines()]


def test_reconstruct_writes_three_whole_files_into_a_new_folder(fake):
    result = run("reconstruct", photo("in/x.jpg"), "--out", "a/b")
    assert result.exit_code == 0, result.output
    assert sorted(os.listdir("a/b")) == ["x.compare.png", "x.recon.png", "x.seed.safetensors"]
    assert picture("a/b/x.recon.png").getpixel((0, 0)) == (255, 0, 0)
    assert load_seed(Path("a/b/x.seed.safetensors")).latents.shape == (1, 4, 8, 8)
    assert picture("a/b/x.compare.png").width >= 5 * 256  # five panels
    assert os.listdir("in") == ["x.jpg"]


def test_reconstruct_takes_a_seed_file_and_writes_its_picture_only(fake):
    assert run("invert", photo("x.png"), "--out", "seeds").exit_code == 0
    result = run("reconstruct", "seeds/x.seed.safetensors", "--json")
    assert result.exit_code == 0, result.output
    assert sorted(os.listdir()) == ["seeds", "x.png", "x.recon.png"]
    row = rows(result)[0]
    assert row["output"] == "x.recon.png"
    assert row["latent_fidelity_db"] == 60
    assert [row[name] for name in ("seed_file", "compare_file", "psnr", "steps")] == [None] * 4


def test_json_is_one_object_a_line_with_all_fields_in_input_order(fake):
    fake.raises["b.png"] = InputError("b.png: is no good")
    result = run("reconstruct", photo("a.png"), photo("b.png"), "nosuch.png", photo("d.png"), "--json")
    assert [list(row) for row in rows(result)] == [FIELDS] * 4
    assert [row["input"] for row in rows(result)] == ["a.png", "b.png", "nosuch.png", "d.png"]
    good, bad, missing, last = rows(result)
    assert good["error"] is None
    assert (good["psnr"], good["steps"], good["seconds"], good["compare_file"]) == (
        30,
        50,
        2.5,
        "a.compare.png",
    )
    assert bad["error"] == "b.png: is no good"
    assert {name for name, value in bad.items() if value is not None} == {"input", "error"}
    assert {name for name, value in missing.items() if value is not None} == {"input", "error"}
    assert last["output"] == "d.recon.png"
    assert result.exit_code == 1


@pytest.mark.parametrize("command", ["invert", "reconstruct", "boost"])
def test_photos_are_done_in_batches_and_seed_files_alone(fake, command):
    fake.raises["b.png"] = InputError("b.png: is no good")
    names = [photo(f"{letter}.png") for letter in "abcde"]
    result = run(command, *names[:2], "nosuch.png", *names[2:], "--batch-size", "3", "--json", "--out", "out")
    assert fake.batches == [["a.png", "b.png", "c.png"], ["d.png", "e.png"]]
    assert [(row["input"], row["error"] is None) for row in rows(result)] == [
        ("a.png", True), ("b.png", False), ("nosuch.png", False), ("c.png", True), ("d.png", True), ("e.png", True),
    ]  # fmt: skip
    assert result.exit_code == 1
    assert len(fake.loaded) == 1
    assert sorted({name[0] for name in os.listdir("out")}) == ["a", "c", "d", "e"]


def test_a_seed_file_among_photos_is_regenerated_alone(fake):
    assert run("invert", photo("x.png")).exit_code == 0
    result = run(
        "reconstruct",
        photo("a.png"),
        photo("b.png"),
        "x.seed.safetensors",
        photo("c.png"),
        "--batch-size",
        "4",
        "--json",
    )
    assert fake.batches[1:] == [["a.png", "b.png"], ["c.png"]]
    assert [row["output"] for row in rows(result)] == [
        "a.recon.png",
        "b.recon.png",
        "x.recon.png",
        "c.recon.png",
    ]


def test_json_lines_of_a_batch_come_when_it_is_done_and_survive_an_interrupt_of_the_next(fake):
    fake.raises["d.png"] = KeyboardInterrupt()
    result = run(
        "invert",
        *(photo(f"{letter}.png") for letter in "abcd"),
        "--batch-size",
        "2",
        "--json",
        "--out",
        "out",
    )
    assert result.exit_code == 130
    assert [row["input"] for row in rows(result)] == ["a.png", "b.png"]
    assert sorted(os.listdir("out")) == ["a.seed.safetensors", "b.seed.safetensors"]


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


def test_json_has_null_for_what_is_not_finite(fake):
    fake.psnr = float("inf")
    result = run("reconstruct", photo("x.png"), "--json")
    assert rows(result)[0]["psnr"] is None
    assert rows(result)[0]["ssim"] == 0.9


def test_json_lines_come_as_each_input_is_done(fake, monkeypatch):
    import typer

    order = []
    echo = typer.echo
    monkeypatch.setattr(
        typer, "echo", lambda *a, **k: (order.append(f"printed after {len(fake.done)}"), echo(*a, **k))
    )
    run("invert", photo("a.png"), photo("b.png"), "--json")
    assert order == ["printed after 1", "printed after 2"]


def test_the_table_and_the_files_go_to_stdout(fake):
    result = run("reconstruct", photo("x.png"))
    assert "30.00" in result.stdout
    assert "31.00" in result.stdout
    assert result.stdout.splitlines()[-3:] == ["x.recon.png", "x.seed.safetensors", "x.compare.png"]
    assert result.stderr == ""


def test_quiet_silences_the_table_but_neither_warnings_nor_errors(fake):
    fake.advice = "1 of 50 steps did not converge"
    result = run("reconstruct", photo("x.png"), "nosuch.png", "--quiet")
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 2
    assert "nosuch.png" in result.stderr.splitlines()[0]
    assert result.stderr.splitlines()[1] == "invrecon: warning: x.png: 1 of 50 steps did not converge"


def test_warnings_stay_out_of_stdout(fake):
    fake.advice = "1 of 50 steps did not converge"
    result = run("invert", photo("x.png"), "--json")
    assert result.exit_code == 0
    assert len(rows(result)) == 1
    assert fake.advice in result.stderr


@pytest.mark.parametrize(
    ("bad", "cause"),
    [
        ("nosuch.png", "No such file"),
        ("folder", "is a folder"),
        ("", "is a folder"),
        ("x" * 300 + ".png", "too long"),
    ],
)
def test_inputs_that_cannot_be_used_fail_in_one_line_before_the_model_loads(fake, bad, cause):
    Path("folder").mkdir()
    result = run("reconstruct", bad)
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("invrecon: ")
    assert cause in result.stderr
    assert fake.loaded == []


def test_a_failed_input_does_not_stop_the_others(fake):
    fake.raises["a.png"] = InvreconError("the decoded image has values that aren't finite")
    result = run("reconstruct", photo("a.png"), photo("b.png"))
    assert result.exit_code == 1
    assert result.stderr == "invrecon: a.png: the decoded image has values that aren't finite\n"
    assert Path("b.recon.png").exists()
    assert not Path("a.recon.png").exists()
    assert len(fake.loaded) == 1


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


def test_settings_that_the_model_refuses_end_the_run_with_2(fake):
    fake.raises["a.png"] = UsageError("size must be a multiple of 64 for mini, not 72")
    result = run("invert", photo("a.png"), photo("b.png"))
    assert result.exit_code == 2
    assert result.stderr == "invrecon: size must be a multiple of 64 for mini, not 72\n"
    assert fake.done == ["a.png"]


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
    assert fake.loaded == [("mini", "cpu", "float32")]


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


def test_seed_sets_the_generators_alike_for_every_input(fake, monkeypatch):
    import invrecon.pipeline

    drawn = []
    monkeypatch.setattr(
        invrecon.pipeline,
        "invert_batch",
        lambda *a: (drawn.append(torch.rand(()).item()), fake.invert_batch(*a))[1],
    )
    for seed, name in (("1", "one"), ("1", "two"), ("2", "three")):
        assert run("invert", photo("x.png"), photo("y.png"), "--seed", seed, "--out", name).exit_code == 0
    assert drawn[0] == drawn[1] == drawn[2] == drawn[3] != drawn[4]


def test_configs_in_the_repository_are_valid_and_mini_spells_out_every_default():
    from invrecon.settings import Settings, load_settings

    configs = Path(__file__).parent.parent / "configs"
    assert load_settings(configs / "mini.toml") == Settings()
    assert set(vars(Settings())) == {
        line.split(" ")[0] for line in (configs / "mini.toml").read_text().splitlines() if line[:1].isalpha()
    }
    smoke = load_settings(configs / "smoke.toml")
    assert (smoke.model, smoke.size, smoke.num_inference_steps) == ("mini", 128, 25)


def test_results_are_overwritten_with_force_only(fake):
    Path("x.compare.png").write_text("mine")
    result = run("reconstruct", photo("x.png"))
    assert result.exit_code == 1
    assert (
        result.stderr
        == "invrecon: x.png: x.compare.png exists; overwrite it with --force or choose another --out\n"
    )
    assert Path("x.compare.png").read_text() == "mine"
    assert fake.loaded == []
    assert run("reconstruct", "x.png", "--force").exit_code == 0
    assert picture("x.compare.png").width > 16


def test_resume_takes_over_what_is_finished_and_does_the_rest(fake):
    inputs = [photo(name) for name in ("a.png", "b.png", "c.png")]
    fake.raises["b.png"] = KeyboardInterrupt()
    assert run("reconstruct", *inputs, "--resume", "--batch-size", "1").exit_code == 130
    Path("c.recon.png").write_bytes(b"somebody's")
    fake.raises.clear()
    fake.done.clear()
    again = run("reconstruct", *inputs, "--resume", "--json", "--batch-size", "2")
    assert again.exit_code == 1
    assert "c.recon.png exists" in again.stderr
    first, second, third = rows(again)
    assert fake.done == ["b.png"]
    assert [first["resumed"], second["resumed"]] == [True, False]
    assert {name: first[name] for name in (*QUALITY, *EFFORT)} == {
        name: second[name] for name in (*QUALITY, *EFFORT)
    }
    assert third["error"]
    assert Path("c.recon.png").read_bytes() == b"somebody's"


def test_resume_does_again_what_was_left_half_done_or_is_asked_for_otherwise(fake):
    inputs = [photo(name) for name in ("a.png", "b.png")]
    assert run("reconstruct", *inputs, "--resume").exit_code == 0
    Path("b.recon.png").unlink()
    fake.done.clear()
    assert run("reconstruct", *inputs, "--resume").exit_code == 0
    assert fake.done == ["b.png"]
    assert Path("b.recon.png").exists()
    other = run("reconstruct", *inputs, "--resume", "--steps", "7")
    assert other.exit_code == 1
    assert other.stderr.count("exists; overwrite it with --force") == 2


def test_resume_counts_finished_results_among_those_that_fall_short(fake):
    fake.psnr = 10.0
    assert [
        run("reconstruct", photo("a.png"), "--resume", "--min-psnr", "20").exit_code for _ in range(2)
    ] == [3, 3]
    assert len(fake.done) == 1


def test_notes_that_resume_cannot_read_are_one_line(fake):
    Path(".invrecon.jsonl").write_text("{}\n")
    refused = run("reconstruct", photo("a.png"), "--resume")
    assert refused.exit_code == 2
    assert ".invrecon.jsonl" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_force_never_overwrites_an_input_of_the_same_run(fake):
    before = Path(photo("x.recon.png")).read_bytes()
    result = run("reconstruct", photo("x.png"), "x.recon.png", "--force", "--json")
    assert result.exit_code == 1
    assert "an input of this run" in rows(result)[0]["error"]
    assert rows(result)[1]["error"] is None
    assert Path("x.recon.png").read_bytes() == before


def test_the_second_of_two_inputs_with_the_same_results_fails(fake):
    result = run("reconstruct", photo("a/x.png"), photo("b/x.jpg"), "--force", "--json")
    assert result.exit_code == 1
    assert [row["error"] is None for row in rows(result)] == [True, False]
    assert len(result.stderr.splitlines()) == 1
    for part in ("b/x.jpg", "a/x.png", "rename", "--out"):
        assert part in result.stderr
    assert fake.done == ["x.png"]


def test_invert_refuses_a_seed_file_before_the_model_loads(fake):
    Path("x.seed.safetensors").touch()
    result = run("invert", "x.seed.safetensors", "--out", "out")
    assert result.exit_code == 1
    assert "reconstruct" in result.stderr
    assert fake.loaded == []


@pytest.mark.parametrize(("least", "code"), [("29.9", 0), ("30", 0), ("30.1", 3)])
def test_min_psnr(fake, least, code):
    result = run("reconstruct", photo("x.png"), "--min-psnr", least)
    assert result.exit_code == code
    assert len(result.stderr.splitlines()) == (code == 3)
    assert Path("x.recon.png").exists()


def test_min_psnr_is_not_reached_by_nan(fake):
    fake.psnr = float("nan")
    assert run("reconstruct", photo("x.png"), "--min-psnr", "0").exit_code == 3


def test_a_failed_input_outweighs_a_poor_result(fake):
    assert run("reconstruct", photo("x.png"), "nosuch.png", "--min-psnr", "40").exit_code == 1


@pytest.mark.parametrize(
    "name",
    [
        "<b>[red]x[bold].png",
        "<b>[red]x[/].png",
        "a\nb.png",
        "\x1b[31mx.png",
        ":smile: {x} %s.png",
        "é\udcff.png",
    ],
)
def test_hostile_names_are_printed_as_they_are_on_one_line(fake, name):
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    fake.advice = "advice"
    result = run("reconstruct", photo(name), "--out", "out")
    assert result.exit_code == 0, result.output
    assert len(os.listdir("out")) == 3
    assert shown in result.stdout
    assert result.stderr == f"invrecon: warning: {shown}: advice\n"
    again = run("reconstruct", name, "--out", "out", "--json")
    assert again.exit_code == 1
    assert len(again.stderr.splitlines()) == 1
    assert again.stderr.startswith(f"invrecon: {shown}: ")
    assert rows(again)[0]["input"] == name


def test_a_bug_is_told_in_one_line(fake):
    fake.raises["x.png"] = RuntimeError("two\nlines [red]")
    result = run("reconstruct", photo("x.png"))
    assert result.exit_code == 1
    assert result.stdout == ""
    assert (
        result.stderr
        == "invrecon: internal error: RuntimeError: two\\nlines [red]; set INVRECON_DEBUG=1 for the traceback\n"
    )


def test_a_bug_is_raised_for_debugging_but_a_mistake_is_not(fake, monkeypatch):
    monkeypatch.setenv("INVRECON_DEBUG", "1")
    fake.raises |= {"x.png": RuntimeError("a bug"), "y.png": UsageError("a mistake")}
    assert isinstance(run("reconstruct", photo("x.png")).exception, RuntimeError)
    assert run("reconstruct", photo("y.png")).exit_code == 2


@pytest.mark.parametrize("command", ["invert", "reconstruct"])
def test_an_interrupt_is_one_line_and_leaves_what_is_complete(fake, command):
    fake.raises["b.png"] = KeyboardInterrupt()
    result = run(command, photo("a.png"), photo("b.png"), photo("c.png"), "--json", "--out", "out")
    assert result.exit_code == 130
    assert result.stderr == "invrecon: interrupted\n"
    assert [row["input"] for row in rows(result)] == ["a.png"]
    assert {name[0] for name in os.listdir("out")} == {"a"}


def test_a_reader_that_leaves_ends_the_run_silently(fake, monkeypatch):
    import typer

    def leave(*_, **__):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(typer, "echo", leave)
    result = run("invert", photo("a.png"), photo("b.png"), "--json")
    assert (result.stdout, result.stderr) == ("", "")
    assert fake.done == ["a.png"]


def test_models_prints_names_and_folders(monkeypatch):
    import invrecon.models

    def folder(name, revision):
        if name != "mini":
            raise ModelError(f"no model {name!r}")
        return Path("/some/mini")

    monkeypatch.setattr(invrecon.models, "model_folder", folder)
    listed = [line.split()[0] for line in run("models", "list").stdout.splitlines()]
    assert listed[0] == "mini"
    assert {"sd15", "sdxl", "sdxl-turbo", "sd35-medium", "flux-dev"} <= set(listed)
    assert run("models", "path", "mini").stdout == "/some/mini\n"
    unknown = run("models", "path", "nosuch")
    assert (unknown.exit_code, unknown.stdout, unknown.stderr) == (2, "", "invrecon: no model 'nosuch'\n")


def test_a_real_pipe_that_nobody_reads_is_silent(tmp_path):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "invrecon", "reconstruct", "nosuch.png", "--json"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (
        done.stderr
        == "invrecon: nosuch.png: can't be used (No such file or directory); check its name and permissions\n"
    )
    assert done.returncode == 1


class Terminal:
    """A stderr that says it is a terminal, and what was written to it."""

    def __init__(self):
        self.text = ""

    def isatty(self):
        return True

    def write(self, text):
        self.text += text
        return len(text)

    def flush(self):
        pass


@pytest.mark.parametrize("quiet", [False, True])
def test_bars_are_drawn_on_a_terminal_only_and_show_name_and_stage(monkeypatch, quiet):
    from invrecon.cli.output import progress_bar

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with progress_bar("[red]x.png", quiet) as on_progress:
        on_progress("inverting", 3, 50)
    assert ("[red]x.png: inverting" in terminal.text and "3/50" in terminal.text) is not quiet
    assert bool(terminal.text) is not quiet


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


def test_verify_prints_where_the_loss_comes_from(fake):
    result = run("verify", "x.seed.safetensors", "x.png", "--matrix")
    assert result.exit_code == 0, result.output
    assert "PSNR 30.00 dB" in result.stdout
    assert "+2.00" in result.stdout  # boosting, 27 to 29
    assert "Euler" in result.stdout


def test_verify_exits_with_3_below_the_threshold_and_prints_strict_json(fake):
    result = run("verify", "x.seed.safetensors", "x.png", "--matrix", "--json", "--min-psnr", "31")
    assert result.exit_code == 3
    assert "falls short of --min-psnr 31" in result.stderr
    row = rows(result)[0]
    assert row["losses"]["boosting"] == 29
    assert row["matrix"][1]["psnr"] is None
    assert run("verify", "x.seed.safetensors", "x.png", "--min-psnr", "29").exit_code == 0
