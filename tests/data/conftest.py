"""Tiny data sets in the official layouts, and the real images where a machine has them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atrous.data.files import Pixels
from atrous.data.spec import VOC_SPEC


def _save_mask(path: Path, mask: Pixels) -> None:
    """Write a palette PNG as VOC does."""
    image = Image.fromarray(mask, mode="P")
    image.putpalette([channel for colour in VOC_SPEC.palette for channel in colour])
    image.save(path)


def _scene(index: int, height: int, width: int) -> tuple[Pixels, Pixels]:
    """A smooth image and blocky labels 0..20 with a void border, different for each index."""
    rng = np.random.default_rng(index)
    coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR))
    labels = rng.integers(0, 21, (3, 3), dtype=np.uint8)
    mask = np.array(Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST))
    mask[:2] = 255
    return image, mask


def _make_voc(
    root: Path,
    *,
    train: Sequence[str] = ("a", "b", "c", "d", "e"),
    val: Sequence[str] = ("v", "w", "x"),
    size: tuple[int, int] = (40, 56),
) -> Path:
    home = root / "VOCdevkit" / "VOC2012"
    lists = home / "ImageSets" / "Segmentation"
    for folder in (lists, home / "JPEGImages", home / "SegmentationClass"):
        folder.mkdir(parents=True)
    for split, names in (("train", train), ("val", val)):
        (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    for index, name in enumerate([*train, *val]):
        image, mask = _scene(index, *size)
        Image.fromarray(image).save(home / "JPEGImages" / f"{name}.jpg", quality=95)
        _save_mask(home / "SegmentationClass" / f"{name}.png", mask)
    return home


@pytest.fixture(scope="session")
def scene() -> Callable[[int, int, int], tuple[Pixels, Pixels]]:
    """A function of (index, height, width) that gives an image and its labels."""
    return _scene


@pytest.fixture(scope="session")
def save_mask() -> Callable[[Path, Pixels], None]:
    """A function of (path, mask) that writes a palette PNG as VOC does."""
    return _save_mask


@pytest.fixture(scope="session")
def make_voc() -> Callable[..., Path]:
    """Make a VOC tree below a folder; returns its VOC2012 folder."""
    return _make_voc


@pytest.fixture
def voc_home(tmp_path: Path) -> Path:
    """The VOC2012 folder of a tiny official tree in tmp_path."""
    return _make_voc(tmp_path)
