"""The page of two evaluations on the same images: what rose, what fell, and where it can be seen."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from atrous.errors import StoreError
from atrous.evaluation.charts import curves, difference_bars, percent
from atrous.evaluation.confidence import difference_interval
from atrous.evaluation.entry import interval_text, trimap_points
from atrous.evaluation.page import Shown, describe
from atrous.evaluation.pictures import Picture, panels
from atrous.html import card, cards, document, four, legend, table


def require_same_images(first: Shown, second: Shown) -> None:
    """Raise unless two evaluations scored the same images of the same classes.

    Raises:
        StoreError: says what differs.
    """
    if first.spec.classes != second.spec.classes:
        raise StoreError(f"{first.name} and {second.name} cannot be compared: their classes differ")
    if first.records.ids != second.records.ids:
        raise StoreError(
            f"{first.name} and {second.name} cannot be compared: they were scored on other images "
            f"({len(first.records)} and {len(second.records)}); measure both anew with overwrite=true"
        )


def most_changed(first: Shown, second: Shown, number: int) -> dict[str, list[int]]:
    """Places of the images whose mean IoU rose and fell most from `first` to `second`.

    Args:
        first: the evaluation that is compared with.
        second: the evaluation that is compared.
        number: of each kind, at most; images that did not change are left out.
    """
    change = np.nan_to_num(second.records.mean_iou - first.records.mean_iou)
    order = [int(place) for place in np.argsort(-change, kind="stable")]
    risen = [place for place in order if change[place] > 0][:number]
    fallen = [place for place in reversed(order) if change[place] < 0][:number]
    return {"risen": risen, "fallen": fallen}


def render_comparison(
    first: Shown,
    second: Shown,
    chosen: Mapping[str, Sequence[int]],
    pictures: tuple[Mapping[int, Picture], Mapping[int, Picture]],
    *,
    command: str,
) -> str:
    """Return the page; differences are `second` minus `first`.

    Args:
        first: the evaluation that is compared with.
        second: the evaluation that is compared.
        chosen: what `most_changed` gave.
        pictures: of both networks, by position in the data set.
        command: that made the page.
    """
    spec = first.spec
    parts = [f'<p class="soft">A: {escape(first.name)} — {escape(describe(first))}</p>']
    parts += [f'<p class="soft">B: {escape(second.name)} — {escape(describe(second))}</p>', _cards(first, second)]
    parts.append(
        '<p class="soft">The interval of the difference is that of a bootstrap over the images, drawn alike for '
        "both.</p><h2>IoU of each class, B minus A, in points</h2>"
    )
    parts += [difference_bars(spec, differences(first, second)), _curves(first, second), _table(first, second)]
    for kind, title in (("risen", "Images that gained most"), ("fallen", "Images that lost most")):
        figures = [four(_panels(first, place, pictures), _caption(first, second, place)) for place in chosen[kind]]
        if figures:
            parts += [f"<h2>{title}</h2>", f'<div class="rows">{"".join(figures)}</div>']
    parts += ["<h2>Classes</h2>", legend(spec.classes, spec.palette, note="hatched: ignored")]
    parts.append(f'<p class="soft">Made by <code>{escape(command)}</code></p>')
    return document(f"{second.name} against {first.name}", "".join(parts))


def differences(first: Shown, second: Shown) -> list[float | None]:
    """IoU of each class in `second` minus that in `first`; None where one of them is undefined."""
    pairs = zip(first.result["iou"].values(), second.result["iou"].values(), strict=True)
    return [None if a is None or b is None else b - a for a, b in pairs]


def _cards(first: Shown, second: Shown) -> str:
    difference = 100 * (second.result["miou"] - first.result["miou"])
    interval = difference_interval(first.records, second.records)
    detail = "" if interval is None else f"{100 * interval[0]:+.2f} to {100 * interval[1]:+.2f}"
    parts = [card(f"{difference:+.2f}", "mIoU, B minus A, in points", detail=detail, main=True)]
    for letter, shown in (("A", first), ("B", second)):
        detail = interval_text(shown.result, unit="%")
        parts.append(card(percent(shown.result["miou"]), f"mIoU of {letter}", detail=detail))
    change = second.records.mean_iou - first.records.mean_iou
    parts.append(card(f"{(change > 0).sum()} : {(change < 0).sum()}", "images better : worse", detail="in B"))
    return cards(parts)


def _curves(first: Shown, second: Shown) -> str:
    lines = {letter: trimap_points(shown.result) for letter, shown in (("A", first), ("B", second))}
    if not all(lines.values()):
        return ""
    chart = curves(lines, x_title="width of the trimap in pixels", y_title="mIoU in percent")
    return f"<h2>Near the outlines</h2>{chart}"


def _table(first: Shown, second: Shown) -> str:
    rows = []
    for name, difference in zip(first.spec.classes, differences(first, second), strict=True):
        css = "" if not difference else f' class="{"good" if difference > 0 else "bad"}"'
        change = "-" if difference is None else f"<span{css}>{100 * difference:+.2f}</span>"
        rows.append([escape(name), percent(first.result["iou"][name]), percent(second.result["iou"][name]), change])
    return "<h2>Classes in numbers</h2>" + table(("class", "A", "B", "B minus A"), rows)


def _panels(
    shown: Shown, place: int, pictures: tuple[Mapping[int, Picture], Mapping[int, Picture]]
) -> list[tuple[str, bytes]]:
    index = int(shown.records.indices[place])
    of_first, of_second = (dict(panels(of[index], shown.spec)) for of in pictures)
    return [
        ("image", of_first["image"]),
        ("truth", of_first["truth"]),
        ("A", of_first["prediction"]),
        ("B", of_second["prediction"]),
    ]


def _caption(first: Shown, second: Shown, place: int) -> str:
    before, after = float(first.records.mean_iou[place]), float(second.records.mean_iou[place])
    return f"{first.records.ids[place]}: mIoU {percent(before)} in A, {percent(after)} in B"
