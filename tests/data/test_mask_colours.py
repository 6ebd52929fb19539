"""Palette and gray masks are read by what they show where that contradicts their indices, and only there."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atrous.data.files import Pixels
from atrous.data.folder import Folder
from atrous.data.spec import VOC_SPEC
from atrous.errors import DataError

ROAD, TREE, SKY, BLACK, WHITE = (128, 64, 128), (0, 128, 0), (70, 130, 180), (0, 0, 0), (255, 255, 255)
Colours = Sequence[tuple[int, int, int]]
STREET = (ROAD, TREE, SKY)


def _read(root: Path, mask: Image.Image, colours: Colours, ignored: tuple[int, int, int] | None = None) -> Pixels:
    for folder in ("images", "masks"):
        (root / folder / "val").mkdir(parents=True)
    Image.new("RGB", mask.size).save(root / "images" / "val" / "a.png")
    mask.save(root / "masks" / "val" / "a.png")
    classes = {
        "classes": [{"name": f"class {label}", "colour": list(colour)} for label, colour in enumerate(colours)],
        "ignore_colour": None if ignored is None else list(ignored),
    }
    return Folder(root=root, split="val", classes=classes).read(0)[1]


def _row(*values: int, palette: Colours | None = None) -> Image.Image:
    """Four rows of these values, gray or with a palette."""
    mask = Image.fromarray(np.array([values] * 4, np.uint8))
    if palette is not None:
        mask.putpalette([channel for colour in palette for channel in colour])
    return mask


@pytest.mark.parametrize("present", [(0, 1, 2), (0, 2), (2,), (0, 1, 2, 255)])
def test_colours_that_were_saved_as_a_palette_png_are_read_as_in_rgb(tmp_path: Path, present: tuple[int, ...]) -> None:
    label = np.array([present] * 3, np.uint8).repeat(5, axis=1)
    palette = np.zeros((256, 3), np.uint8)
    palette[:3], palette[255] = STREET, WHITE
    mask = Image.fromarray(palette[label]).quantize(16, dither=Image.Dither.NONE)
    np.testing.assert_array_equal(np.asarray(mask.convert("RGB")), palette[label])
    np.testing.assert_array_equal(_read(tmp_path, mask, STREET, WHITE), label)


@pytest.mark.parametrize(
    ("palette", "values", "expected"),
    [
        pytest.param((SKY, ROAD, TREE), (0, 1, 2), (2, 0, 1), id="another order"),
        pytest.param((BLACK, (9, 9, 9), ROAD, (8, 8, 8), TREE), (2, 4), (0, 1), id="values that are no classes"),
        pytest.param((BLACK, ROAD, TREE, SKY, *((n, 0, n) for n in range(99))), (1, 2), (0, 1), id="all and others"),
        pytest.param((TREE, BLACK, BLACK, BLACK), (0, 0), (1, 1), id="a filled up palette"),
    ],
)
def test_a_palette_that_is_the_class_lists_is_believed(
    tmp_path: Path, palette: Colours, values: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    label = _read(tmp_path, _row(*values, palette=palette), STREET, None if BLACK not in palette[2:] else BLACK)
    assert label[0].tolist() == list(expected)


@pytest.mark.parametrize("values", [(0,), (0, 2), (0, 1, 2), (0, 1, 2, 255), (1, 255)])
def test_indices_with_the_palette_of_another_data_set_stay_indices(tmp_path: Path, values: tuple[int, ...]) -> None:
    mask = _row(*values, palette=[*VOC_SPEC.palette, *[(224, 224, 192)] * (256 - len(VOC_SPEC.palette))])
    assert _read(tmp_path, mask, STREET, BLACK)[0].tolist() == list(values)  # VOC's 0 is black, and its 2 is TREE


@pytest.mark.parametrize(
    ("colours", "values", "expected"),
    [
        ((BLACK, WHITE), (0, 255), (0, 1)),
        ((BLACK, WHITE), (255, 255), (1, 1)),
        ((WHITE, BLACK), (0, 255), (1, 0)),
        ((BLACK, (128, 128, 128), WHITE), (0, 128, 255), (0, 1, 2)),
        ((BLACK, (99, 99, 99), ROAD), (0, 99), (0, 1)),
    ],
)
def test_gray_masks_that_show_the_classes_colours_are_read_by_them(
    tmp_path: Path, colours: Colours, values: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    assert _read(tmp_path, _row(*values), colours)[0].tolist() == list(expected)


@pytest.mark.parametrize("ignored", [None, BLACK])
@pytest.mark.parametrize("values", [(0,), (0, 1, 2), (0, 255), (2, 255)])
def test_gray_indices_stay_indices_where_black_is_another_class_or_ignored(
    tmp_path: Path, values: tuple[int, ...], ignored: tuple[int, int, int] | None
) -> None:
    colours = STREET if ignored else (ROAD, TREE, BLACK)
    assert _read(tmp_path, _row(*values), colours, ignored)[0].tolist() == list(values)


@pytest.mark.parametrize("values", [(0,), (0, 1), (0, 1, 255)])
def test_gray_indices_of_black_and_white_classes_stay_indices(tmp_path: Path, values: tuple[int, ...]) -> None:
    assert _read(tmp_path, _row(*values), (BLACK, WHITE))[0].tolist() == list(values)


@pytest.mark.parametrize(
    ("mask", "colours", "readings"),
    [
        pytest.param(
            _row(0, 1, 7, palette=(TREE, ROAD, *[(1, 2, 3)] * 6)),
            STREET,
            r"value 0 shows \[0, 128, 0\], the colour of class 'class 1', and is as an index class 'class 0'; "
            r"value 7 shows \[1, 2, 3\], the colour of no class, and is as an index no class",
            id="a value that is neither",
        ),
        pytest.param(
            _row(0, 1, 2, palette=(TREE, ROAD, (35, 90, 90))),
            STREET,
            r"value 0 shows \[0, 128, 0\].*; value 2 shows \[35, 90, 90\], the colour of no class, .* class 'class 2'",
            id="a blend of two colours",
        ),
        pytest.param(
            _row(0), (WHITE, BLACK), r"value 0 shows \[0, 0, 0\], .* 'class 1', .* 'class 0'", id="black or the first"
        ),
        pytest.param(
            _row(1, 255),
            (ROAD, (1, 1, 1), WHITE),
            r"value 255 shows \[255, 255, 255\], the colour of class 'class 2', and is as an index ignored",
            id="white or ignored",
        ),
    ],
)
def test_a_mask_that_may_be_either_is_an_error_with_both_readings(
    tmp_path: Path, mask: Image.Image, colours: Colours, readings: str
) -> None:
    with pytest.raises(DataError, match=rf"mask '.*val/a\.png' may hold colours or indices of 'folder': {readings}"):
        _read(tmp_path, mask, colours)
