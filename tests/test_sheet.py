"""Comparison sheets and error maps."""

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from invrecon.sheet import Panel, compare_sheet, details, error_map, worst_part

COLOURS = ((200, 30, 30), (30, 200, 30), (30, 30, 200))


def sheet_of(side, title="title", note="27.31 dB"):
    return np.asarray(
        compare_sheet([Panel(title, note, Image.new("RGB", (side, side), colour)) for colour in COLOURS]), int
    )


def boxes(sheet):
    """(left, top, right, bottom) of each panel's colour."""
    found = []
    for colour in COLOURS:
        rows, columns = np.nonzero((sheet == colour).all(-1))
        found.append((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    return found


@pytest.mark.parametrize(
    ("side", "shown"), [(1, 256), (64, 256), (255, 256), (256, 256), (300, 300), (512, 512)]
)
def test_panels_are_equal_in_one_row_and_at_least_256_wide(side, shown):
    places = boxes(sheet_of(side))
    assert all((right - left, bottom - top) == (shown, shown) for left, top, right, bottom in places)
    assert len({top for _, top, _, _ in places}) == 1
    gaps = [b[0] - a[2] for a, b in pairwise(places)]
    assert gaps[0] == gaps[1] == places[0][0] > 0


def test_large_panels_show_their_picture_unchanged():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8))
    sheet = compare_sheet([Panel("a", "", image)])
    margin = (sheet.width - 300) // 2
    assert (np.asarray(sheet.crop((margin, margin, margin + 300, margin + 300))) == np.asarray(image)).all()


@pytest.mark.parametrize(
    "text", ["a", "autoencoder only", "a long title " * 9, "W" * 90, "two\nlines", "ümlaut × 8"]
)
@pytest.mark.parametrize("side", [64, 512])
def test_captions_stay_below_their_own_panel(side, text):
    sheet = sheet_of(side, title=text, note=text)
    places = boxes(sheet)
    bottom = max(place[3] for place in places) + 1
    ink = (sheet[bottom:] < 200).all(-1)
    assert not ink[-3:].any()
    under = np.zeros(sheet.shape[1], bool)
    for left, _, right, _ in places:
        under[left:right] = True
        assert ink[:, left:right].any()
    assert not ink[:, ~under].any()


@pytest.mark.parametrize(
    ("text", "whole"),
    [("a title that is somewhat too wide for its panel", True), ("a long title " * 9, False)],
)
def test_captions_shrink_before_they_are_cut(text, whole):
    """The last letter still shows where the whole text does."""
    assert (sheet_of(256, title=text + "a") != sheet_of(256, title=text + "w")).any() == whole


def test_title_is_darker_than_note():
    titled, noted = (sheet_of(256, title=title, note=note) for title, note in (("text", ""), ("", "text")))
    below = max(place[3] for place in boxes(titled)) + 1
    assert titled[below:].min() < noted[below:].min() < 160


def test_no_caption_no_ink():
    sheet = sheet_of(256, "", "")
    assert (sheet[max(place[3] for place in boxes(sheet)) + 1 :] == 255).all()


def test_sheet_takes_other_modes_and_sizes():
    sheet = compare_sheet(
        [
            Panel("a", "", Image.new(mode, size))
            for mode, size in (("RGB", (64, 64)), ("L", (32, 32)), ("RGBA", (99, 9)))
        ]
    )
    assert sheet.mode == "RGB"


def test_sheet_needs_a_panel():
    with pytest.raises(ValueError, match="at least one"):
        compare_sheet([])


def pair(difference):
    flat = np.full((1, len(difference), 3), 100, np.uint8)
    return Image.fromarray(flat), Image.fromarray(
        (flat + np.array(difference)[None, :, None]).astype(np.uint8)
    )


def test_error_map_grows_lighter_from_black():
    a, b = pair(range(33))
    shown = np.asarray(error_map(a, b, gain=8), int)[0]
    lightness = shown @ (0.2126, 0.7152, 0.0722)
    assert shown[0].max() <= 4
    assert shown[-1].min() > 180
    assert (np.diff(lightness) > 0).all()
    assert np.diff(lightness).max() < 3 * np.diff(lightness).min() + 4


def test_error_map_is_symmetric_scales_with_gain_and_saturates():
    a, b = pair([0, 1, 5, 40, 70])
    assert error_map(a, b).tobytes() == error_map(b, a).tobytes()
    twice = pair([0, 2, 10, 80, 140])
    assert error_map(a, b, gain=4).tobytes() == error_map(*twice, gain=2).tobytes()
    shown = np.asarray(error_map(a, b, gain=8))[0]
    assert (shown[3] == shown[4]).all()


def test_error_map_averages_colours():
    black = Image.new("RGB", (1, 1))
    spread, even = (Image.new("RGB", (1, 1), colour) for colour in ((30, 0, 0), (10, 10, 10)))
    assert error_map(black, spread).getpixel((0, 0)) == error_map(black, even).getpixel((0, 0))


def test_error_map_needs_equal_sizes():
    with pytest.raises(ValueError, match="can't compare"):
        error_map(Image.new("RGB", (2, 2)), Image.new("RGB", (2, 3)))


WHOLE = (0, 0, 120, 80)


def with_spots(*spots):
    """A picture of 120 x 80 pixels, grey but for bright rectangles."""
    image = Image.new("RGB", (120, 80), (100, 100, 100))
    for box, level in spots:
        image.paste((level,) * 3, box)
    return image


def test_the_worst_part_holds_the_largest_error():
    flat, spotted = with_spots(), with_spots(((5, 5, 15, 15), 130), ((90, 60, 100, 66), 200))
    left, top, right, bottom = worst_part(flat, spotted, WHOLE)
    assert (right - left, bottom - top) == (30, 20)
    assert left <= 90
    assert 100 <= right <= 120
    assert top <= 60
    assert 66 <= bottom <= 80


def test_errors_outside_of_what_counts_are_left_out():
    flat, spotted = with_spots(), with_spots(((5, 5, 15, 15), 130), ((90, 60, 100, 66), 200))
    left, top, right, bottom = worst_part(flat, spotted, (0, 0, 60, 80))
    assert left <= 5 < 15 <= right
    assert top <= 5 < 15 <= bottom


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (1, 50)])
def test_the_worst_part_of_a_tiny_picture_lies_in_it(size):
    left, top, right, bottom = worst_part(
        Image.new("RGB", size), Image.new("RGB", size, "red"), (0, 0, *size)
    )
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]


def test_details_are_the_same_part_of_each_picture_as_large_as_the_whole():
    spotted = with_spots(((30, 20, 60, 40), 250))
    first, second = details([Panel("a", "x", spotted), Panel("b", "y", with_spots())], (30, 20, 60, 40))
    assert first.image.size == second.image.size == (120, 80)
    assert (np.asarray(first.image)[10:-10, 10:-10] == 250).all()
    assert (np.asarray(second.image) == 100).all()
    assert (first.note, second.note) == ("30 x 20 pixels at (30, 20)", "")
