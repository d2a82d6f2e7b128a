"""The canvas."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageChops

from invrecon.image import Photo, plan_canvas
from tests.image.files import distance, encoded, load, picture


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_thin_photos(tmp_path, size, fit):
    photo = load(tmp_path, encoded(Image.new("RGB", size, (10, 200, 90)), "PNG"))
    canvas = plan_canvas(size, 64, fit)
    square = canvas.place(photo.rgb)
    assert square.getcolors() == [(64 * 64, (10, 200, 90))]
    assert distance(canvas.restore(square, photo), photo.rgb) == 0


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_square_photo_of_the_canvas_size_is_untouched(fit):
    image = picture((48, 48))
    canvas = plan_canvas(image.size, 48, fit)
    assert canvas.box == (0, 0, 48, 48)
    assert distance(canvas.place(image), image) == 0
    assert distance(canvas.restore(image, Photo(Path("x"), image, None, "")), image) == 0


@pytest.mark.parametrize("size", [(80, 48), (48, 80), (81, 48)])
def test_crop_shows_the_middle_and_pastes_into_the_photo(size):
    image = picture(size)
    photo = Photo(Path("x"), image, None, "")
    canvas = plan_canvas(size, 48, "crop")
    square = canvas.place(image)
    assert distance(square, image.crop(canvas.box)) == 0
    assert distance(canvas.restore(square, photo), image) == 0
    changed = canvas.restore(ImageChops.invert(square), photo)
    outside = np.ones(size[::-1], bool)
    outside[canvas.box[1] : canvas.box[3], canvas.box[0] : canvas.box[2]] = False
    same = (np.asarray(changed) == np.asarray(image)).all(-1)
    assert same[outside].all()
    assert not same[~outside].any()
    assert distance(image, photo.rgb) == 0
    assert abs((canvas.box[0] + canvas.box[2]) - size[0]) <= 1
    assert abs((canvas.box[1] + canvas.box[3]) - size[1]) <= 1


@pytest.mark.parametrize("size", [(64, 32), (32, 64), (64, 31)])
def test_pad_is_exact_at_the_same_scale_and_continues_the_edges(size):
    image = picture(size)
    canvas = plan_canvas(size, 64, "pad")
    square = canvas.place(image)
    left, top, right, bottom = canvas.box
    assert square.size == (64, 64)
    assert distance(square.crop(canvas.box), image) == 0
    values = np.asarray(square)
    assert (values[:top] == values[top]).all()
    assert (values[bottom:] == values[bottom - 1]).all()
    assert (values[:, :left] == values[:, left : left + 1]).all()
    assert (values[:, right:] == values[:, right - 1 : right]).all()
    assert distance(canvas.restore(square, Photo(Path("x"), image, None, "")), image) == 0


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("size", [(300, 200), (200, 301), (90, 40)])
def test_round_trip_of_a_smooth_photo(fit, size):
    image = picture(size)
    canvas = plan_canvas(size, 128, fit)
    back = canvas.restore(canvas.place(image), Photo(Path("x"), image, None, ""))
    assert back.size == size
    assert distance(back, image) <= 4


def test_large_photo_is_averaged_when_reduced():
    """Stripes of single pixels become grey, without a pattern."""
    stripes = Image.fromarray((np.indices((1500, 2000)).sum(0) % 2 * 255).astype(np.uint8)).convert("RGB")
    for fit in ("crop", "pad", "stretch"):
        assert distance(plan_canvas(stripes.size, 50, fit).place(stripes), np.full((50, 50, 3), 127)) <= 2


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_alpha_is_put_back(tmp_path, fit):
    """The restored picture has the photo's alpha and, laid on white, gives the photo back."""
    image = picture((64, 48))
    image.putalpha(image.getchannel("R"))
    photo = load(tmp_path, encoded(image, "PNG"))
    canvas = plan_canvas(photo.rgb.size, 64, fit)
    restored = canvas.restore(canvas.place(photo.rgb), photo)
    assert restored.mode == "RGBA"
    assert distance(restored.getchannel("A"), photo.alpha) == 0
    again = load(tmp_path, encoded(restored, "PNG"))
    assert distance(again.rgb, photo.rgb) <= 4
    opaque = np.asarray(image)[..., 3] > 128
    assert np.abs(np.asarray(restored, int) - np.asarray(image, int))[opaque].max() <= 8
