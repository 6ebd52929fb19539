"""Overlays, the choice of samples, contact sheets, pages and the training crops behind `atrous-data show`."""

import base64
import io
import re
import tracemalloc
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atrous.data.augmentation import CropConfig
from atrous.data.files import Pixels
from atrous.data.inspection.check import conclude
from atrous.data.inspection.crops import training_crops
from atrous.data.inspection.document import document, samples
from atrous.data.inspection.overlay import choose_samples, overlay, paint
from atrous.data.inspection.page import render_report
from atrous.data.inspection.reading import Readings
from atrous.data.inspection.sheet import Figure, draw_sheet
from atrous.data.inspection.splits import Split
from atrous.data.samples import TrainSamples
from atrous.data.spec import CAMVID_SPEC, VOC_SPEC, DatasetSpec
from atrous.data.voc import VOC2012

Scene = Callable[[int, int, int], tuple[Pixels, Pixels]]


class _Outside(HTMLParser):
    """Collects what a page would load from elsewhere, and whether its tags match."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.urls += [value for key, value in attrs if key in ("src", "href") and value and value[:5] != "data:"]
        if tag not in ("meta", "img", "rect", "path"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.open and tag not in ("rect", "path"):
            assert self.open.pop() == tag


def _assert_self_contained(page: str) -> None:
    parser = _Outside()
    parser.feed(page)
    assert parser.urls == []
    assert parser.open == []


def test_painted_labels_have_the_colours_of_the_palette() -> None:
    label = np.array([[0, 1, 20, 255]], np.uint8)
    assert paint(label, VOC_SPEC).tolist() == [[[0, 0, 0], [128, 0, 0], [0, 64, 128], [240, 240, 235]]]


def test_an_overlay_leaves_background_clear_and_mixes_the_class_into_the_inside_of_objects() -> None:
    image, label = np.full((40, 40, 3), 200, np.uint8), np.zeros((40, 40), np.uint8)
    label[10:30, 10:30] = 15
    shown = overlay(image, label, VOC_SPEC)
    assert (shown[:9] == 200).all()
    assert shown[20, 20].tolist() == np.rint(0.4 * 200 + 0.6 * np.array(VOC_SPEC.palette[15])).tolist()
    assert shown[10, 20].tolist() == list(VOC_SPEC.palette[15])  # the outline


def test_ignored_pixels_are_hatched_so_that_the_image_stays_visible() -> None:
    image, label = np.zeros((40, 40, 3), np.uint8), np.full((40, 40), 255, np.uint8)
    assert 1 < len(np.unique(overlay(image, label, VOC_SPEC)[..., 0])) <= 3


def test_few_chosen_samples_show_every_class() -> None:
    counts = np.zeros((50, 12), np.int64)
    counts[:, 0] = 5
    counts[np.arange(11) * 4, np.arange(1, 12)] = 9
    chosen = choose_samples(counts, 12)
    assert (counts[chosen] > 0).any(0).all()
    assert len(set(chosen)) == 12
    assert chosen == sorted(chosen)


@pytest.mark.parametrize(("images", "number", "expected"), [(0, 4, 0), (3, 4, 3), (9, 4, 4)])
def test_no_more_samples_are_chosen_than_there_are(images: int, number: int, expected: int) -> None:
    assert len(choose_samples(np.ones((images, 3), np.int64), number)) == expected


def test_a_sheet_holds_every_picture_at_its_place_and_every_colour_of_the_legend(scene: Scene) -> None:
    figures = [Figure(f"a very long caption of figure number {index}", *scene(index, 60, 80)) for index in range(3)]
    sheet = draw_sheet(figures, CAMVID_SPEC, title="t", subtitle="s", columns=2, cell=(80, 60), beside=True)
    pixels = np.asarray(sheet)
    for index, figure in enumerate(figures):
        row, column = divmod(index, 2)
        top, left = 96 + row * (60 + 34 + 14), 28 + column * (160 + 14)
        np.testing.assert_array_equal(pixels[top : top + 60, left : left + 80], figure.image)
    colours = {tuple(colour) for colour in pixels[96 + 2 * 108 :].reshape(-1, 3).tolist()}
    assert set(CAMVID_SPEC.palette) <= colours


def test_a_page_of_samples_needs_nothing_from_elsewhere_and_holds_the_pictures(scene: Scene) -> None:
    image, label = scene(0, 60, 80)
    page = document("a <b> & c", samples([Figure("<i>&", image, label)], VOC_SPEC, beside=True))
    _assert_self_contained(page)
    assert "a &lt;b&gt; &amp; c" in page
    assert "&lt;i&gt;&amp;" in page
    first, second = re.findall(r"base64,([A-Za-z0-9+/=]+)", page)
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(first))))
    assert np.abs(shown.astype(int) - image).mean() < 6
    assert Image.open(io.BytesIO(base64.b64decode(second))).size == (80, 60)


def test_the_report_names_splits_classes_and_problems(voc_home: Path) -> None:
    (voc_home / "JPEGImages/v.jpg").unlink()
    dataset = VOC2012.unverified(root=voc_home, split="val")
    splits = [Split(name="val", dataset=dataset, used=True), Split(name="test", problem="absent")]
    pairs = Readings(splits)
    result = conclude(splits, pairs, list(pairs.all(num_workers=0)))
    page = render_report(result, {}, name="voc", command="atrous-data check voc")
    _assert_self_contained(page)
    for words in ("1 problem<", "v.jpg", "pottedplant", "<td>1449</td>", "absent", "atrous-data check voc"):
        assert words in page
    assert page.count("<rect") == 2 * 21 + 1


def test_shown_crops_are_the_crops_that_a_training_gets(voc_home: Path) -> None:
    dataset = VOC2012(root=voc_home, split="train")
    samples_of = TrainSamples(dataset=dataset, augmentation=CropConfig(crop_size=(33, 33)), seed=5)
    figures = training_crops(samples_of, epoch=2, count=99)
    assert sorted(figure.caption.split(" · ")[0] for figure in figures) == ["a", "b", "c", "d", "e"]
    for figure in figures:
        name, scale, *rest = figure.caption.split(" · ")
        index = "abcde".index(name)
        sample = samples_of[2, index]
        np.testing.assert_array_equal(figure.image, sample["image"].permute(1, 2, 0).numpy())
        np.testing.assert_array_equal(figure.label, sample["label"].numpy())
        assert 0.5 <= float(scale[1:]) <= 2
        padded = [part for part in rest if part.startswith("padded")]
        assert bool(padded) == (tuple(sample["extent"].tolist()) != (33, 33))


def test_a_flip_is_told_exactly_when_the_crop_is_flipped(voc_home: Path) -> None:
    dataset = VOC2012(root=voc_home, split="train")
    config = CropConfig(crop_size=(40, 56), scale_min=1, scale_max=1)
    for figure in training_crops(TrainSamples(dataset=dataset, augmentation=config, seed=0), epoch=0, count=5):
        stored = dataset.read("abcde".index(figure.caption[0]))[1]
        expected = stored[:, ::-1] if "flipped" in figure.caption else stored
        np.testing.assert_array_equal(figure.label, expected)


def test_a_data_set_without_background_is_covered_everywhere() -> None:
    spec = DatasetSpec(name="two", classes=("sky", "road"), palette=((0, 0, 255), (90, 90, 90)))
    image = np.full((20, 20, 3), 255, np.uint8)
    assert (overlay(image, np.zeros((20, 20), np.uint8), spec) != 255).any(-1).all()


def test_an_overlay_of_a_large_photo_holds_no_floats_of_all_of_it() -> None:
    image, label = np.zeros((1000, 800, 3), np.uint8), np.ones((1000, 800), np.uint8)
    tracemalloc.start()
    try:
        overlay(image, label, VOC_SPEC)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 30 * label.size
