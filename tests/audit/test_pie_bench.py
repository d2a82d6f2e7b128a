"""PIE-Bench: a made-up benchmark of four pictures in its own layout, and its metrics' definitions."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from invrecon.audit.edits.background import Judges, judge
from invrecon.audit.edits.pie_bench import Case, read_benchmark
from invrecon.cli.app import app
from invrecon.errors import InputError, UsageError
from invrecon.models.judges import Clip, Dino, Lpips
from tests import judges

SIDE = 64
EVERYTHING = [0, SIDE * SIDE + 100]  # a run beyond the end is cut there
MASKS = ([10 * SIDE + 10, 20, 11 * SIDE + 10, 20], EVERYTHING, "1300 30 1364 30", [0, 5])
PLACES = (
    "0_random_140/000000000000.jpg",
    "1_change_object_80/1_artificial/1_animal/111000000000.jpg",
    "6_change_attribute_color_40/2_natural/4_outdoor/624000000000.jpg",
    "9_change_style_80/1_artificial/1_animal/911000000000.jpg",
)


@pytest.fixture
def benchmark(tmp_path):
    """Its folder, beside an older mapping file that must not be read."""
    folder, table = tmp_path / "PIE-Bench", {}
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    for number, (place, mask) in enumerate(zip(PLACES, MASKS, strict=True)):
        path = folder / "annotation_images" / place
        path.parent.mkdir(parents=True)
        rgb = np.stack((x * 4, y * 4, np.full_like(x, 60 * number)), -1).astype(np.uint8)
        Image.fromarray(rgb).save(path)
        table[path.stem] = {
            "image_path": place,
            "original_prompt": "a [red] box on the ground",
            "editing_prompt": "a [green] box on the ground",
            "editing_instruction": "make it green",
            "editing_type_id": place[0],
            "blended_word": "box box",
            "mask": mask,
        }
    (folder / "mapping_file.json").write_text("{}")
    (folder / "mapping_file_v1.json").write_text(json.dumps(table))
    return folder


def run(*arguments):
    command = ["audit-edit", "--size", str(SIDE), "--steps", "3", "--rtol", "0.1", "--no-boost"]
    return CliRunner().invoke(app, [*command, "--sweep", "mode=swap", *map(str, arguments)])


def test_the_latest_mapping_is_read_without_brackets(benchmark):
    cases = read_benchmark(benchmark)
    assert [case.place for case in cases] == list(PLACES)
    assert (cases[0].source, cases[0].target) == ("a red box on the ground", "a green box on the ground")
    (benchmark / "mapping_file_v10.json").write_text("{}")
    assert read_benchmark(benchmark) == []


def test_masks_are_decoded_as_the_benchmark_does_it(benchmark):
    expected = np.zeros((SIDE, SIDE), bool)
    expected[10:12, 10:30] = True
    expected[0] = expected[-1] = expected[:, 0] = expected[:, -1] = True
    cases = read_benchmark(benchmark)
    assert np.array_equal(cases[0].mask(SIDE, SIDE), expected)
    assert cases[1].mask(SIDE, SIDE).all()
    assert cases[2].mask(SIDE, SIDE)[20, 20:50].all()
    assert cases[2].mask(SIDE, SIDE)[20:22].sum() == 2 * (30 + 2)
    with pytest.raises(InputError, match="use the benchmark's own photos, of 512 x 512 pixels"):
        cases[2].mask(16, 16)


@pytest.mark.parametrize(
    "change",
    [{"mask": [1, 2, 3]}, {"mask": [-1, 2]}, {"mask": None}, {"image_path": "../../secret.png"}],
)
def test_a_damaged_mapping_is_refused_in_one_line(change, benchmark):
    path = benchmark / "mapping_file_v1.json"
    table = json.loads(path.read_text())
    table["911000000000"] |= change
    path.write_text(json.dumps(table))
    with pytest.raises(UsageError, match=r"mapping_file_v1\.json: can't be read .* fetch it again"):
        read_benchmark(benchmark)


def test_background_metrics_are_of_pictures_that_are_black_inside_the_mask():
    torchmetrics = pytest.importorskip("torchmetrics")
    random = np.random.default_rng(0)
    a, b = (Image.fromarray(random.integers(0, 256, (48, 48, 3), dtype=np.uint8)) for _ in range(2))
    mask = Case("", None, "", "", "", [10 * 48, 20 * 48]).mask(48, 48)
    figures = judge(a, b, mask, ("", ""), Judges())
    x, y = (
        torch.tensor(np.array(one).astype(np.float32) / 255 * ~mask[..., None]).permute(2, 0, 1)[None].float()
        for one in (a, b)
    )
    psnr = torchmetrics.image.PeakSignalNoiseRatio(data_range=1.0)(x, y).item()
    ssim = torchmetrics.image.StructuralSimilarityIndexMeasure(data_range=1.0)(x, y).item()
    assert figures["psnr"] == pytest.approx(psnr, rel=1e-5)
    assert figures["psnr"] == pytest.approx(-10 * math.log10(figures["mse"]))
    assert figures["ssim"] == pytest.approx(ssim, rel=1e-5)
    assert figures["lpips"] is figures["clip_whole"] is figures["structure_distance"] is None
    same = judge(a, a, mask, ("", ""), Judges())
    assert (same["psnr"], same["mse"], same["ssim"]) == (None, 0, 1)
    assert set(judge(a, b, np.ones((48, 48), bool), ("", ""), Judges()).values()) == {None}


def test_the_command_counts_masks_that_cover_everything_and_goes_on(mini, benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr("invrecon.models.load_model", lambda *_, **__: mini)
    arguments = "--pie-bench", benchmark, "--out", tmp_path / "out", "--json"
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert "NaN" not in result.stdout
    found = json.loads(result.stdout)
    assert [(line["edit"][:4], line["inversion"]) for line in found["rows"]] == [
        (edit, way) for way in ("lbo", "ddim") for edit in ("reco", "swap")
    ]
    for line in found["rows"]:
        assert (line["photos"], line["everything"], line["clip_whole"]) == (4, 1, None)
        of_line = [
            row
            for row in found["edits"]
            if (row["edit"], row["inversion"]) == (line["edit"], line["inversion"])
        ]
        known = [row["psnr"] for row in of_line if not row["everything"]]
        assert len(known) == 3
        assert line["psnr"] == pytest.approx(np.mean(known))
    first = next(row for row in found["edits"] if row["edit"] == "reconstruction")
    with Image.open(tmp_path / "out" / first["picture"]) as picture:
        original = Image.open(benchmark / "annotation_images" / PLACES[0])
        mask = read_benchmark(benchmark)[0].mask(SIDE, SIDE)
        assert judge(original, picture, mask, ("", ""), Judges())["psnr"] == pytest.approx(first["psnr"])
    before = (tmp_path / "out" / "results.jsonl").read_bytes()
    assert json.loads(run(*arguments).stdout) == found
    assert (tmp_path / "out" / "results.jsonl").read_bytes() == before


def test_the_command_scores_by_the_networks_that_it_is_given(mini, benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr("invrecon.models.load_model", lambda *_, **__: mini)
    judges.lpips(tmp_path / "lpips.safetensors")
    judges.clip(tmp_path / "clip", mini.pipeline.tokenizer)
    judges.dino(tmp_path / "dino")
    result = run(
        *("--pie-bench", benchmark, "--inversions", "ddim", "--out", tmp_path / "out", "--json"),
        *("--lpips-weights", tmp_path / "lpips.safetensors", "--clip", tmp_path / "clip"),
        *("--dino", tmp_path / "dino"),
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    lpips, clip = Lpips(tmp_path / "lpips.safetensors"), Clip(tmp_path / "clip")
    dino, cases = Dino(tmp_path / "dino"), {case.place: case for case in read_benchmark(benchmark)}
    for row in found["edits"]:
        original = Image.open(benchmark / "annotation_images" / row["photo"])
        picture = Image.open(tmp_path / "out" / row["picture"])
        outside = ~cases[row["photo"]].mask(SIDE, SIDE)[..., None]
        part = Image.fromarray(np.asarray(picture) * ~outside)
        background = [
            torch.tensor(np.asarray(one) / 127.5 * outside - 1).float() for one in (original, picture)
        ]
        assert row["clip_source"] == pytest.approx(clip.score(original, "a red box on the ground"))
        assert row["clip_whole"] == pytest.approx(clip.score(picture, "a green box on the ground"))
        assert row["clip_edited"] == pytest.approx(clip.score(part, "a green box on the ground"))
        assert row["structure_distance"] == pytest.approx(dino.distance(original, picture))
        assert min(row["clip_source"], row["clip_whole"], row["clip_edited"]) > 0
        if row["everything"]:
            assert row["lpips"] is None
        else:
            expected = lpips.distance(*(one.permute(2, 0, 1)[None] for one in background))
            assert row["lpips"] == pytest.approx(expected, rel=1e-4)
    line = found["rows"][-1]
    for name in ("clip_source", "clip_whole", "clip_edited", "structure_distance", "lpips"):
        known = [row[name] for row in found["edits"] if row["edit"] == line["edit"] and row[name] is not None]
        assert line[name] == pytest.approx(np.mean(known))


def test_a_photo_that_is_missing_is_told_and_the_others_are_done(mini, benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr("invrecon.models.load_model", lambda *_, **__: mini)
    (benchmark / "annotation_images" / PLACES[2]).unlink()
    result = run("--pie-bench", benchmark, "--inversions", "ddim", "--out", tmp_path / "out", "--json")
    assert result.exit_code == 1
    assert [line.partition(", ")[0] for line in result.stderr.splitlines()] == [f"invrecon: {PLACES[2]}"]
    assert {line["photos"] for line in json.loads(result.stdout)["rows"]} == {3}


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        ([], "name cut-outs, or a benchmark with --pie-bench"),
        (["--pie-bench", "."], "name a folder with --out"),
        (["--pie-bench", ".", "--out", "out"], "name the folder of PIE-Bench"),
        (["cutout.png", "--pie-bench", "."], "leave the cut-outs out"),
    ],
)
def test_wrong_usage_is_told_with_its_cure(arguments, cure, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert cure in result.stderr
