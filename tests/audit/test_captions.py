"""Captions of an audit's photos: COCO's file, metadata.jsonl, and what one option says."""

import json
from pathlib import Path

import pytest

from invrecon.audit.methods.plan import Setting
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
