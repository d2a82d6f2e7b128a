"""The canvas."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from invrecon.errors import UsageError
from invrecon.image import Photo, plan_canvas
from tests.image.files import distance, encoded, load, picture


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_thin_photos(tmp_path, size, fit):
    photo = load(tmp_path, encoded(Image.new("RGB", size, (10, 200, 90)), "PNG"))
    canvas = plan_canvas(size, 64, fit)
    square = canvas.place(photo.rgb)
    assert square.getcolors() == [(64 * 64, (10, 200, 90))]
    assert distance(canvas.restore(square, photo), canvas.shown(photo.rgb)) == 0


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_square_photo_of_the_canvas_size_is_untouched(fit):
    image = picture((48, 48))
    canvas = plan_canvas(image.size, 48, fit)
    assert canvas.box == (0, 0, 48, 48)
    assert distance(canvas.place(image), image) == 0
    assert distance(canvas.restore(image, Photo(Path("x"), image, None, "")), image) == 0


@pytest.mark.parametrize("size", [(80, 48), (48, 80), (81, 48)])
def test_crop_shows_the_middle_and_nothing_else(size):
    image = picture(size)
    photo = Photo(Path("x"), image, None, "")
    canvas = plan_canvas(size, 48, "crop")
    square = canvas.place(image)
    assert distance(square, image.crop(canvas.box)) == 0
    assert distance(canvas.restore(square, photo), image.crop(canvas.box)) == 0
    assert distance(canvas.shown(image), image.crop(canvas.box)) == 0
    assert abs((canvas.box[0] + canvas.box[2]) - size[0]) <= 1
    assert abs((canvas.box[1] + canvas.box[3]) - size[1]) <= 1


def test_crop_takes_the_shape_that_is_asked_for():
    canvas = plan_canvas((300, 200), (64, 128), "crop")
    assert (canvas.size, canvas.box) == ((64, 128), (100, 0, 200, 200))


@pytest.mark.parametrize("fit", ["whole", "crop", "pad", "stretch"])
@pytest.mark.parametrize("size", [(300, 200), (640, 427), (1, 50)])
def test_no_pixel_of_the_photo_reaches_what_is_restored(fit, size):
    """The picture is black; so is all of what comes back."""
    photo = Photo(Path("x"), Image.new("RGB", size, "white"), None, "")
    canvas = plan_canvas(size, 64, fit)
    restored = canvas.restore(Image.new("RGB", canvas.size), photo)
    assert restored.getextrema() == ((0, 0),) * 3
    assert restored.size == canvas.shown(photo.rgb).size


def test_a_mask_keeps_the_photo_s_own_pixels_where_it_is_black():
    image = picture((64, 32))
    canvas, mask = plan_canvas(image.size, (64, 64), "pad"), Image.new("L", (64, 64), 255)
    mask.paste(0, (0, 0, 32, 64))
    back = canvas.restore(Image.new("RGB", (64, 64)), Photo(Path("x"), image, None, ""), mask)
    assert distance(back.crop((0, 0, 30, 32)), image.crop((0, 0, 30, 32))) == 0
    assert back.crop((34, 0, 64, 32)).getextrema() == ((0, 0),) * 3


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
    shown = canvas.shown(image)
    assert back.size == shown.size
    assert distance(back, shown) <= 4


def test_large_photo_is_averaged_when_reduced():
    """Stripes of single pixels become grey, without a pattern."""
    stripes = Image.fromarray((np.indices((1500, 2000)).sum(0) % 2 * 255).astype(np.uint8)).convert("RGB")
    for fit in ("crop", "pad", "stretch"):
        assert distance(plan_canvas(stripes.size, 48, fit).place(stripes), np.full((48, 48, 3), 127)) <= 2


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_alpha_is_put_back(tmp_path, fit):
    """The restored picture has the photo's alpha and, laid on white, gives the photo back."""
    image = picture((64, 48))
    image.putalpha(image.getchannel("R"))
    photo = load(tmp_path, encoded(image, "PNG"))
    canvas = plan_canvas(photo.rgb.size, 64, fit)
    restored = canvas.restore(canvas.place(photo.rgb), photo)
    assert restored.mode == "RGBA"
    assert distance(restored.getchannel("A"), canvas.shown(photo.alpha)) == 0
    again = load(tmp_path, encoded(restored, "PNG"))
    assert distance(again.rgb, canvas.shown(photo.rgb)) <= 4
    shown = np.asarray(canvas.shown(image), int)
    assert np.abs(np.asarray(restored, int) - shown)[shown[..., 3] > 128].max() <= 8


@pytest.mark.parametrize("multiple", [8, 16, 32])
@pytest.mark.parametrize("size", [(640, 427), (300, 900), (6000, 4000), (100, 100), (3000, 500), (427, 640)])
@pytest.mark.parametrize("side", [128, 256, 512])
def test_a_whole_photo_is_stretched_by_3_percent_at_most(size, multiple, side):
    canvas = plan_canvas(size, side, "whole", multiple)
    width, height = canvas.size
    assert width % multiple == height % multiple == 0
    assert 0.75 <= width * height / side**2 <= 1.25
    if canvas.fit == "stretch":
        ratio = width * size[1] / (height * size[0])
        assert 1 / 1.03 <= ratio <= 1.03
        assert canvas.seen == (0, 0, width, height)
    else:
        assert side * min(size) / max(size) < 3 * multiple  # too few shapes there


@pytest.mark.parametrize(
    ("size", "side"), [((1, 50), 256), ((50, 1), 256), ((640, 427), 2048), ((400, 90), 64)]
)
def test_a_shape_that_the_model_can_t_take_is_padded(size, side):
    canvas = plan_canvas(size, side, "whole")
    left, top, right, bottom = canvas.seen
    assert canvas.fit == "pad"
    assert 64 <= min(canvas.size) <= max(canvas.size) <= 2048
    assert (right - left, bottom - top) != canvas.size
    assert abs((right - left) * size[1] / ((bottom - top) * size[0]) - 1) < 0.05 or min(size) == 1


def test_a_size_that_the_model_can_t_take_is_refused():
    with pytest.raises(UsageError, match="multiples of 16 for this model, not 72x72"):
        plan_canvas((100, 100), 72, "crop", 16)
