"""Captions of an audit's photos: COCO's file, metadata.jsonl, and what one option says."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from invrecon.audit.methods.plan import Setting
from invrecon.cli.app import app
from invrecon.cli.audit import _plan, _Wishes
from invrecon.errors import UsageError
from invrecon.settings import load_captions

CAPTIONED = Setting(True, 1.0)
COCO = {
    "info": {"year": 2017},
    "images": [{"id": 7, "file_name": "000000000007.jpg"}, {"id": 139, "file_name": "000000000139.jpg"}],
    "annotations": [
        {"image_id": 139, "id": 3, "caption": "A room  with chairs.\n"},
        {"image_id": 7, "id": 4, "caption": "A train."},
        {"image_id": 139, "id": 5, "caption": "A second caption."},
    ],
}


@pytest.fixture
def coco(tmp_path):
    path = tmp_path / "captions_val2017.json"
    path.write_text(json.dumps(COCO))
    return path


def caption(wishes, *photos):
    plan = _plan({"captions": {"cat": "a preset's cat"}}, wishes, list(photos))
    return [plan.caption(photo, CAPTIONED) for photo in photos]


def test_the_first_of_coco_s_captions_is_taken(coco):
    assert load_captions(coco) == {"000000000139.jpg": "A room with chairs.", "000000000007.jpg": "A train."}
    photos = [Path("val2017/000000000139.jpg"), Path("val2017/000000000007.jpg")]
    assert caption(_Wishes(captions_file=coco), *photos) == ["A room with chairs.", "A train."]
    assert _plan({}, _Wishes(captions_file=coco), photos).caption(photos[0], Setting(False, 1.0)) == ""


def test_metadata_names_photos_below_its_own_folder(tmp_path):
    rows = [{"file_name": "a/cat.png", "text": "a cat"}, {"file_name": "b/cat.png", "text": "another cat"}]
    file = tmp_path / "metadata.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    photos = [tmp_path / "b" / "cat.png", tmp_path / "a" / "cat.png"]
    assert caption(_Wishes(captions_file=file), *photos) == ["another cat", "a cat"]
    assert caption(_Wishes(captions_file=file, captions=["cat=mine"]), *photos) == ["mine", "mine"]
    assert caption(_Wishes(), *photos) == ["a preset's cat"] * 2


@pytest.mark.parametrize("name", ["captions_val2017.json", "metadata.jsonl"])
def test_the_command_inverts_by_them(name, mini, tmp_path, monkeypatch):
    monkeypatch.setattr("invrecon.models.load_model", lambda *_, **__: mini)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for photo, shade in (("000000000007.jpg", 0), ("000000000139.jpg", 9)):
        Image.fromarray(pixels // 2 + shade).save(tmp_path / photo)
    rows = [
        {"file_name": "000000000007.jpg", "text": "A train."},
        {"file_name": "000000000139.jpg", "text": "A room with chairs."},
    ]
    lines = json.dumps(COCO) if name.endswith(".json") else "\n".join(map(json.dumps, rows))
    (tmp_path / name).write_text(lines)
    (tmp_path / "audit.toml").write_text("[audit]\ndecoder_ceiling = false\n")
    command = [
        *("audit", *map(str, sorted(tmp_path.glob("*.jpg"))), "--captions", str(tmp_path / name)),
        *("--config", str(tmp_path / "audit.toml"), "--out", str(tmp_path / "out"), "--methods", "DDIM"),
        *("--budgets", "1", "--settings", "caption:1,empty:1", "--size", "64", "--steps", "2"),
    ]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    found = map(json.loads, (tmp_path / "out" / "results.jsonl").read_text().splitlines())
    prompts = [(row["photo"], row["prompt"]) for row in found if row["kind"] == "run"]
    assert prompts == [
        ("000000000007.jpg", "A train."),
        ("000000000007.jpg", ""),
        ("000000000139.jpg", "A room with chairs."),
        ("000000000139.jpg", ""),
    ]


def test_a_photo_without_a_caption_is_told_and_the_cure_helps(coco):
    with pytest.raises(UsageError, match=r"has no caption for dog\.jpg; add one, or leave the photo out"):
        caption(_Wishes(captions_file=coco), Path("dog.jpg"))
    assert caption(_Wishes(captions_file=coco, captions=["dog=a dog"]), Path("dog.jpg")) == ["a dog"]


@pytest.mark.parametrize(
    "change",
    [
        {"annotations": [{"image_id": 139, "bbox": [0, 0, 1, 1]}]},
        {"annotations": [{"image_id": 5, "caption": "of no picture"}]},
        {"images": ["000000000007.jpg"]},
        {"images": None},
    ],
)
def test_other_files_of_coco_are_refused(change, coco):
    coco.write_text(json.dumps(COCO | change))
    with pytest.raises(UsageError, match=r"name captions_val2017\.json or its like"):
        load_captions(coco)
