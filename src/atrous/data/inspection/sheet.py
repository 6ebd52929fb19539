"""A contact sheet: pictures in a grid with captions and a legend of the classes, as one PNG."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from atrous.data.files import Pixels
from atrous.data.inspection.overlay import fit, overlay
from atrous.data.spec import Colour, DatasetSpec

_INK, _SOFT, _PAPER, _PANEL = (29, 37, 48), (91, 103, 117), (255, 255, 255), (240, 243, 246)
_MARGIN, _GAP, _TEXT = 28, 14, 17
_FONT = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Figure:
    """One sample.

    Attributes:
        caption: what is written below it.
        image: uint8 RGB [H, W, 3].
        label: uint8 [H, W].
    """

    caption: str
    image: Pixels
    label: Pixels


def draw_sheet(
    figures: Sequence[Figure],
    spec: DatasetSpec,
    *,
    title: str,
    subtitle: str,
    columns: int,
    cell: tuple[int, int],
    beside: bool,
) -> Image.Image:
    """Draw the sheet.

    Args:
        figures: the samples, row by row.
        spec: names and colours of the classes.
        title: the first line.
        subtitle: the second line.
        columns: samples per row.
        cell: (width, height) that each picture is fitted into.
        beside: whether the image stands to the left of its overlay; otherwise the overlay stands alone.
    """
    width_of = (2 if beside else 1) * cell[0]
    columns = max(1, min(columns, len(figures)))
    rows = -(-len(figures) // columns)
    width = 2 * _MARGIN + columns * width_of + (columns - 1) * _GAP
    entries = _legend(spec, width - 2 * _MARGIN)
    row_height = cell[1] + 2 * _TEXT + _GAP
    top = _MARGIN + 68
    height = top + rows * row_height + _GAP + len(entries) * 30 + _MARGIN - 8
    sheet = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((_MARGIN, _MARGIN - 4), title, _INK, _font(26))
    pen.text((_MARGIN, _MARGIN + 30), subtitle, _SOFT, _font(_TEXT))
    for number, figure in enumerate(figures):
        row, column = divmod(number, columns)
        corner = _MARGIN + column * (width_of + _GAP), top + row * row_height
        _draw_figure(sheet, pen, figure, spec, corner=corner, cell=cell, beside=beside)
    _draw_legend(pen, entries, top + rows * row_height + _GAP)
    return sheet


def jpeg(pixels: Pixels, *, quality: int = 88) -> bytes:
    """Encode RGB pixels [H, W, 3] as JPEG."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="JPEG", quality=quality)
    return stream.getvalue()


def _draw_figure(
    sheet: Image.Image,
    pen: ImageDraw.ImageDraw,
    figure: Figure,
    spec: DatasetSpec,
    *,
    corner: tuple[int, int],
    cell: tuple[int, int],
    beside: bool,
) -> None:
    over = overlay(figure.image, figure.label, spec)
    pictures = [figure.image, over] if beside else [over]
    pen.rectangle((*corner, corner[0] + len(pictures) * cell[0] - 1, corner[1] + cell[1] - 1), _PANEL)
    for place, pixels in enumerate(pictures):
        fitted = fit(pixels, width=cell[0], height=cell[1])
        left = corner[0] + place * cell[0] + (cell[0] - fitted.shape[1]) // 2
        sheet.paste(Image.fromarray(fitted), (left, corner[1] + (cell[1] - fitted.shape[0]) // 2))
    caption = _shorten(figure.caption, len(pictures) * cell[0])
    pen.text((corner[0], corner[1] + cell[1] + 5), caption, _INK, _font(_TEXT - 2))


def _legend(spec: DatasetSpec, width: int) -> list[list[tuple[int, str, Colour]]]:
    """Lay the classes out in lines: (left edge, name, colour) each."""
    lines: list[list[tuple[int, str, Colour]]] = [[]]
    left = 0
    for name, colour in zip(spec.classes, spec.palette, strict=True):
        need = 30 + int(_font(_TEXT).getlength(name)) + 18
        if left and left + need > width:
            lines.append([])
            left = 0
        lines[-1].append((left, name, colour))
        left += need
    return lines


def _draw_legend(pen: ImageDraw.ImageDraw, lines: list[list[tuple[int, str, Colour]]], top: int) -> None:
    for row, line in enumerate(lines):
        for left, name, colour in line:
            x, y = _MARGIN + left, top + 30 * row
            pen.rounded_rectangle((x, y + 2, x + 21, y + 19), 5, colour, _SOFT)
            pen.text((x + 30, y), name, _INK, _font(_TEXT))


def _shorten(text: str, width: int) -> str:
    font = _font(_TEXT - 2)
    while len(text) > 1 and font.getlength(text) > width:
        text = text[:-2] + "…"
    return text


def _font(size: int) -> _FONT:
    return ImageFont.load_default(size)
