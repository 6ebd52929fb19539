"""The page of an evaluation: numbers with their intervals, classes, confusion, outlines, and images to look at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from atrous.data.spec import DatasetSpec
from atrous.evaluation.charts import class_bars, confusions, curves, heat_map, percent
from atrous.evaluation.entry import interval_text, trimap_points
from atrous.evaluation.pictures import Picture, panels
from atrous.evaluation.records import ImageRecords
from atrous.html import card, cards, document, four, legend, table

_KINDS = {"best": "Best images", "median": "Images in the middle", "worst": "Worst images"}


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a page is about.

    Attributes:
        name: of the run or of the released weights.
        entry: name of the entry of results.json.
        result: the entry itself.
        spec: classes and colours.
        records: what was counted in each image.
    """

    name: str
    entry: str
    result: Mapping[str, Any]
    spec: DatasetSpec
    records: ImageRecords


def render_evaluation(
    shown: Shown, chosen: Mapping[str, Sequence[int]], pictures: Mapping[int, Picture], *, command: str
) -> str:
    """Return the page of one evaluation.

    Args:
        shown: what it is about.
        chosen: places of the images in the records, by kind: best, median, worst.
        pictures: by position in the data set.
        command: that made the page.
    """
    result, spec = shown.result, shown.spec
    parts = [f'<p class="soft">{escape(describe(shown))}</p>', _cards(result)]
    parts += [f'<p class="soft">{escape(note)}</p>' for note in _notes(result)]
    intervals = (result.get("confidence") or {}).get("iou") or [None] * spec.num_classes
    parts += ["<h2>IoU of each class</h2>", class_bars(spec, list(result["iou"].values()), intervals)]
    if result.get("boundary"):
        parts += _outlines(shown)
    parts += ["<h2>What is taken for what</h2>", _mistakes(shown), heat_map(shown.records.matrix, spec)]
    parts.append('<p class="soft">Rows are the truth, columns the prediction, in percent of the truth\'s pixels.</p>')
    for kind, places in chosen.items():
        figures = [four(panels(pictures[int(shown.records.indices[p])], spec), caption(shown, p)) for p in places]
        parts += [f"<h2>{_KINDS[kind]}</h2>", f'<div class="rows">{"".join(figures)}</div>']
    note = "hatched: ignored; red in the errors: wrong"
    parts += ["<h2>Classes</h2>", legend(spec.classes, spec.palette, note=note)]
    parts.append(f'<p class="soft">Made by <code>{escape(command)}</code></p>')
    return document(f"{shown.name}: {shown.entry}", "".join(parts))


def describe(shown: Shown) -> str:
    """One line on the data set and the protocol."""
    result, settings = shown.result, shown.result["protocol"]
    stride = settings["output_stride"]
    words = ["output stride of the training" if stride is None else f"output stride {stride}"]
    scales = list(settings["scales"])
    words.append("one scale" if scales == [1.0] else f"scales {', '.join(f'{scale:g}' for scale in scales)}")
    words += ["with mirror images"] if settings["flip"] else []
    if settings.get("tile"):
        words.append(f"tiles of {settings['tile'][0]}x{settings['tile'][1]} (not the papers' protocol)")
    weights = {"last": "final weights", "best": "best weights on val"}.get(result["checkpoint"], result["checkpoint"])
    number = f"{result['images']} images, {result['pixels'] / 1e6:.1f} million labelled pixels"
    return f"{shown.spec.name}, {number}; {', '.join(words)}; {weights}"


def caption(shown: Shown, place: int) -> str:
    """One line on an image: its name, its scores and its classes."""
    records, iou = shown.records, shown.records.iou[place]
    classes = [f"{shown.spec.classes[c]} {percent(float(iou[c]))}" for c in np.flatnonzero(np.isfinite(iou))]
    wrong = percent(float(records.error_share[place]))
    mean = percent(float(records.mean_iou[place]))
    return f"{records.ids[place]}: mIoU {mean}, {wrong} of the pixels wrong ({', '.join(classes)})"


def _cards(result: Mapping[str, Any]) -> str:
    parts = [card(percent(result["miou"]), "mIoU", detail=interval_text(result, unit="%"), main=True)]
    if published := result.get("published"):
        difference = 100 * result["miou"] - published["miou"]
        parts.append(card(f"{published['miou']:.2f}%", "published mIoU", detail=f"measured {difference:+.2f} points"))
    accuracy = interval_text(result, "pixel_accuracy", unit="%")
    parts.append(card(percent(result["pixel_accuracy"]), "pixel accuracy", detail=accuracy))
    parts.append(card(percent(result.get("mean_accuracy")), "mean accuracy", detail="over classes"))
    parts.append(card(percent(result.get("frequency_weighted_iou")), "frequency-weighted IoU"))
    if boundary := result.get("boundary"):
        parts.append(card(percent(boundary["f_score"]), "boundary F-score", detail="within 0.75% of the diagonal"))
    return cards(parts)


def _notes(result: Mapping[str, Any]) -> list[str]:
    if not result.get("confidence"):
        return []
    level, draws = round(100 * result["confidence"]["level"]), result["confidence"]["replicates"]
    return [f"Small numbers and whiskers: {level}% intervals of a bootstrap over the images ({draws} draws)."]


def _outlines(shown: Shown) -> list[str]:
    points = trimap_points(shown.result)
    of_void = shown.spec.void_marks_outlines
    if not points:
        lacks = "pixels with the void label" if of_void else "outlines: no pixel lies beside one of another class"
        return [f'<p class="soft">No trimap curve: this data set has no {lacks}.</p>']
    near = "the void label" if of_void else "a change of the class (no void label marks this data set's outlines)"
    note = f"mIoU of the labelled pixels within so many pixels of {near}, as in DeepLabv3+, Figure 5."
    chart = curves({shown.name: points}, x_title="width of the trimap in pixels", y_title="mIoU in percent")
    return ["<h2>Near the outlines</h2>", chart, f'<p class="soft">{note}</p>']


def _mistakes(shown: Shown) -> str:
    classes = shown.spec.classes
    rows = [
        [escape(classes[truth]), escape(classes[found]), percent(share)]
        for truth, found, share in confusions(shown.records.matrix, 6)
    ]
    head = ("truth", "taken for", "of the truth's pixels")
    return table(head, rows, text=(1, 0)) if rows else '<p class="soft">No pixel is wrong.</p>'
