"""The pages of an evaluation and of a comparison: whole, self-contained, and with the right numbers on them."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from atrous.data import Shapes
from atrous.errors import StoreError
from atrous.evaluation.charts import class_bars, confusions, curves, difference_bars, heat_map
from atrous.evaluation.comparison import most_changed, render_comparison, require_same_images
from atrous.evaluation.evaluate import Evaluation
from atrous.evaluation.page import Shown, render_evaluation
from atrous.evaluation.pictures import Picture, choose, error_map
from atrous.evaluation.records import ImageRecord, ImageRecords
from atrous.evaluation.scores import count_matrices

DATASET = Shapes(split="val", length=9, size=65)
CLASSES = DATASET.spec.num_classes
SETTINGS = {"output_stride": 8, "scales": [0.5, 1.0], "flip": True}


def _shown(name: str, share: float, number: int = len(DATASET)) -> tuple[Shown, dict[int, Picture]]:
    """Predictions in which the first columns of image i are wrong, more of them in later images."""
    images, pictures = [], {}
    for index in range(number):
        image, truth = DATASET.read(index)
        prediction = truth.copy()
        prediction[:, : int(share * (index + 1))] = 3
        matrix = count_matrices(
            torch.from_numpy(truth),
            torch.from_numpy(prediction),
            torch.zeros((), dtype=torch.int64),
            num_classes=CLASSES,
            num_groups=1,
        )[0]
        images.append(ImageRecord(index=index, sample_id=f"scene<{index}>", matrix=matrix))
        pictures[index] = Picture(image=image, truth=truth, prediction=prediction)
    evaluation = Evaluation(records=ImageRecords.collect(images, num_classes=CLASSES))
    result = {**evaluation.result(DATASET.spec.classes), "protocol": SETTINGS, "checkpoint": "last"}
    shown = Shown(name=name, entry="ms_os8", result=result, spec=DATASET.spec, records=evaluation.records)
    return shown, pictures


class _Balance(HTMLParser):
    """Counts open elements and collects what the page would fetch."""

    _VOID = ("meta", "img", "br", "path", "circle", "polyline")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self._VOID:
            self.open.append(tag)
        self.fetched += [value or "" for key, value in attrs if key in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        if tag not in self._VOID:
            assert self.open.pop() == tag


def _require_whole(page: str) -> None:
    parser = _Balance()
    parser.feed(page)
    assert parser.open == []
    assert all(source.startswith("data:image/jpeg;base64,") for source in parser.fetched)
    assert "url(" not in page
    assert "<script" not in page
    assert "scene<" not in page  # names are escaped
    assert "prefers-color-scheme: dark" in page


def test_the_page_holds_every_part_and_fetches_nothing() -> None:
    shown, pictures = _shown("run/seed0", 4)
    chosen = choose(shown.records, 2)
    page = render_evaluation(shown, chosen, pictures, command="atrous-evaluate run=x")
    _require_whole(page)
    assert page.count("<img") == 3 * 2 * 4
    for words in ("95% intervals", "output stride 8, scales 0.5, 1, with mirror images", "atrous-evaluate run=x"):
        assert words in page
    assert f"<b>{100 * shown.result['miou']:.1f}%</b>" in page
    assert [title for title in re.findall("<h2>(.*?)</h2>", page) if "mages" in title] == [
        "Best images",
        "Images in the middle",
        "Worst images",
    ]


@pytest.mark.parametrize(
    ("void_marks_outlines", "miou", "words"),
    [
        (True, 0.5, "within so many pixels of the void label, as in"),
        (True, None, "No trimap curve: this data set has no pixels with the void label."),
        (False, 0.5, "within so many pixels of a change of the class (no void label"),
        (False, None, "No trimap curve: this data set has no outlines"),
    ],
)
def test_what_marks_the_outlines_is_what_the_data_set_has(
    void_marks_outlines: bool, miou: float | None, words: str
) -> None:
    shown, _ = _shown("run", 4)
    boundary = {"trimap_widths": [1], "trimap_miou": [miou], "f_score": 0.5}
    spec = replace(shown.spec, void_marks_outlines=void_marks_outlines)
    page = render_evaluation(
        replace(shown, spec=spec, result={**shown.result, "boundary": boundary}), {}, {}, command=""
    )
    assert words in page


def test_images_are_chosen_by_the_mean_iou_of_their_own_classes() -> None:
    shown, _ = _shown("run", 4)
    chosen, score = choose(shown.records, 2), shown.records.mean_iou
    assert score[chosen["best"]].min() >= score[chosen["median"]].max()
    assert score[chosen["median"]].min() >= score[chosen["worst"]].max()
    assert chosen["worst"][0] == int(score.argmin())
    few, _ = _shown("run", 4, number=2)
    assert {len(places) for places in choose(few.records, 3).values()} == {1}


def test_the_error_map_marks_wrong_pixels_and_leaves_the_ignored_out() -> None:
    truth = np.array([[0, 1, 255]], np.uint8)
    picture = Picture(image=np.full((1, 3, 3), 80, np.uint8), truth=truth, prediction=np.array([[0, 2, 5]], np.uint8))
    right, wrong, ignored = error_map(picture, DATASET.spec)[0]
    assert len(set(right)) == len(set(ignored)) == 1  # grey
    assert wrong[0] > 2 * wrong[1]  # red


def test_the_comparison_names_what_rose_and_what_fell() -> None:
    first, second = _shown("one", 4), _shown("two", 2)
    require_same_images(first[0], second[0])
    chosen = most_changed(first[0], second[0], 3)
    change = second[0].records.mean_iou - first[0].records.mean_iou
    assert chosen["risen"][0] == int(change.argmax())
    assert chosen["fallen"] == []
    page = render_comparison(first[0], second[0], chosen, (first[1], second[1]), command="c")
    _require_whole(page)
    difference = 100 * (second[0].result["miou"] - first[0].result["miou"])
    assert f"<b>{difference:+.2f}</b>" in page
    assert page.count("<img") == 3 * 4
    assert "Images that lost most" not in page


def test_evaluations_of_other_images_are_not_compared() -> None:
    first, _ = _shown("one", 4)
    second, _ = _shown("two", 4, number=5)
    with pytest.raises(StoreError, match=r"one and two cannot be compared.* \(9 and 5\)"):
        require_same_images(first, second)


def test_bars_are_as_long_as_their_values_and_sorted() -> None:
    values: list[float | None] = [0.25, None, 0.5, *[0.1] * (CLASSES - 3)]
    bars = class_bars(DATASET.spec, values, [[0.2, 0.3], *[None] * (CLASSES - 1)])
    names = re.findall(r"</span>(\w+)</span>", bars)
    assert names[:2] == [DATASET.spec.classes[2], DATASET.spec.classes[0]]
    assert names[-1] == DATASET.spec.classes[1]
    assert '<i style="left:0;width:25.00%"></i><u style="left:20.00%;width:10.00%"></u>' in bars
    changes = difference_bars(DATASET.spec, [0.02, -0.04, *[None] * (CLASSES - 2)])
    assert "left:50.00%;width:25.00%;background:var(--good)" in changes
    assert "left:0.00%;width:50.00%;background:var(--bad)" in changes


def test_the_heat_map_shows_shares_of_the_truth_and_the_costliest_mistakes_come_first() -> None:
    matrix = np.zeros((CLASSES, CLASSES), np.int64)
    matrix[0, 0], matrix[0, 1], matrix[2, 3] = 75, 25, 100
    page = heat_map(matrix, DATASET.spec)
    assert 'title="sand predicted as grass: 25.00%">25</td>' in page
    assert confusions(matrix, 5) == [(2, 3, 1.0), (0, 1, 0.25)]


def test_a_curve_has_a_point_for_every_value_and_nothing_is_drawn_of_nothing() -> None:
    chart = curves({"a": [(1.0, 0.2), (40.0, 0.5)], "b": [(1.0, 0.3), (40.0, 0.6)]}, x_title="x", y_title="y")
    assert chart.count("<circle") == 4
    assert curves({"a": []}, x_title="x", y_title="y") == ""
