"""Comparison sheets: pictures side by side, each with its caption, and maps of their differences."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Box = tuple[int, int, int, int]  # (left, top, right, bottom), pixels

_MIN_PANEL = 256  # pixels; smaller pictures are enlarged, so that captions fit
_TITLE, _NOTE = (17, 24, 39), (107, 114, 128)
# Black, purple, orange, pale yellow: their lightness rises evenly
_HEAT = np.array([(0, 0, 4), (81, 18, 124), (183, 55, 121), (252, 137, 97), (252, 253, 191)], np.float64)


@dataclass(frozen=True)
class Panel:
    """One picture of a sheet, with its title and a note (such as a figure; may be empty) below."""

    title: str
    note: str
    image: Image.Image


def compare_sheet(panels: Sequence[Panel]) -> Image.Image:
    """One row of the panels' pictures on white, RGB, all as large as the first, but at least 256 pixels wide.

    Captions stand below, shortened where they are wider than their picture. Raises ValueError where there is
    no panel.
    """
    if not panels:
        raise ValueError("a sheet needs at least one panel")
    width, height = panels[0].image.size
    scale = max(1.0, _MIN_PANEL / width)
    width, height = round(width * scale), max(1, round(height * scale))
    text = max(15, width // 22)
    margin, line = text, round(text * 1.35)
    sheet = Image.new(
        "RGB",
        (margin + len(panels) * (width + margin), margin + height + text // 2 + 2 * line + margin // 2),
        "white",
    )
    draw = ImageDraw.Draw(sheet)
    for index, panel in enumerate(panels):
        left, below = margin + index * (width + margin), margin + height + text // 2
        sheet.paste(
            panel.image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS), (left, margin)
        )
        # the outline sets pale pictures off from the page
        draw.rectangle((left - 1, margin - 1, left + width, margin + height), outline=(209, 213, 219))
        for shift in (0, text / 30):  # drawn twice, a little apart, the title looks bold
            _caption(draw, (left + shift, below), panel.title, width, text, _TITLE)
        _caption(draw, (left, below + line), panel.note, width, text, _NOTE)
    return sheet


def contact_sheet(groups: Sequence[Sequence[Panel]], columns: int = 4) -> Image.Image:
    """Groups of panels below each other, each begun on a row of its own and wrapped after `columns` panels;
    see `compare_sheet`.
    """
    rows = [
        compare_sheet(group[first : first + columns])
        for group in groups
        for first in range(0, len(group), columns)
    ]
    sheet = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    return sheet


def details(panels: Sequence[Panel], box: Box) -> list[Panel]:
    """The same part of each panel's picture, enlarged to the size of the whole."""
    left, top, right, bottom = box
    place = f"{right - left} x {bottom - top} pixels at ({left}, {top})"
    parts = [one.image.convert("RGB").resize(one.image.size, Image.Resampling.LANCZOS, box) for one in panels]
    return [Panel("detail", place if part is parts[0] else "", part) for part in parts]


def worst_part(a: Image.Image, b: Image.Image, within: Box, zoom: int = 4) -> Box:
    """Where two pictures of one size differ most: the window with the largest squared error, its sides those
    of the pictures by `zoom`.

    Args:
        within: the part of the pictures whose error counts.

    Returns:
        (left, top, right, bottom), pixels.
    """
    width, height = max(1, a.width // zoom), max(1, a.height // zoom)
    x, y = (np.asarray(one.convert("RGB"), np.float64) for one in (a, b))
    left, top, right, bottom = within
    error = np.zeros((a.height, a.width))
    error[top:bottom, left:right] = ((x - y) ** 2).sum(-1)[top:bottom, left:right]
    sums = np.pad(error, ((1, 0), (1, 0))).cumsum(0).cumsum(1)  # of all above and to the left
    tall = sums[height:] - sums[:-height]
    windows = tall[:, width:] - tall[:, :-width]
    row, column = (int(place) for place in np.unravel_index(windows.argmax(), windows.shape))
    return column, row, column + width, row + height


def _caption(
    draw: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    width: int,
    size: int,
    colour: tuple[int, int, int],
) -> None:
    """One line of text, no wider than `width`: smaller where need be, down to 11 pixels, then cut short."""
    text = " ".join(text.split())
    while (font := ImageFont.load_default(size)).getlength(text) > width - 2 and size > 11:
        size -= 1
    if font.getlength(text) > width - 2:
        while font.getlength(text + "...") > width - 2:
            text = text[:-1]
        text += "..."
    draw.text(at, text, colour, font)


def error_map(a: Image.Image, b: Image.Image, gain: float = 8) -> Image.Image:
    """The absolute difference of two pictures of one size, averaged over colours and times `gain`, in false
    colours (RGB).

    Black is none, pale yellow is 255 / gain levels of 8 bits or more. Raises ValueError where the sizes
    differ.
    """
    if a.size != b.size:
        raise ValueError(f"can't compare pictures of {a.size} and {b.size} pixels")
    difference = np.abs(
        np.asarray(a.convert("RGB"), np.float32) - np.asarray(b.convert("RGB"), np.float32)
    ).mean(-1)
    place = (difference * gain / 255).clip(0, 1)
    anchors = np.linspace(0, 1, len(_HEAT))
    channels = [np.interp(place, anchors, heat) for heat in _HEAT.T]
    return Image.fromarray(np.stack(channels, -1).round().astype(np.uint8))
