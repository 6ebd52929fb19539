"""The report of a check: verdict, splits, class frequencies, hard classes and samples with their labels."""

from collections.abc import Sequence
from html import escape

from atrous.data.inspection.check import CheckResult
from atrous.data.inspection.document import document, legend, samples
from atrous.data.inspection.plot import class_bars
from atrous.data.inspection.sheet import Figure
from atrous.data.inspection.statistics import SplitStatistics
from atrous.data.spec import DatasetSpec
from atrous.html import chip, table

SPLIT_HEAD = ("split", "images", "officially", "usable", "pixels", "ignored")


def render_report(result: CheckResult, figures: dict[str, list[Figure]], *, name: str, command: str) -> str:
    """Return the report as a self-contained page.

    Args:
        result: what the check found.
        figures: samples by split.
        name: of the data set's config.
        command: that made the report.
    """
    rows = [[escape(cell) for cell in row] for row in split_rows(result)]
    parts = [_verdict(result), "<h2>Splits</h2>", table(SPLIT_HEAD, rows)]
    parts += [f'<p class="soft">{escape(note)}</p>' for note in result.notes]
    statistics = {split.name: result.statistics[split.name] for split in result.used}
    if statistics:
        parts += ["<h2>How often each class appears</h2>", class_bars(result.spec.classes, statistics)]
        first = next(iter(statistics))
        parts += [f"<h2>Hard classes in {escape(first)}</h2>", _hard_classes(result.spec, statistics[first])]
    for split, chosen in figures.items():
        parts += [f"<h2>Samples of {escape(split)}</h2>", samples(chosen, result.spec, beside=False)]
    parts += ["<h2>Classes</h2>", legend(result.spec), f'<p class="soft">Made by <code>{escape(command)}</code></p>']
    return document(f"Data set {name}", "".join(parts))


def split_rows(result: CheckResult) -> list[list[str]]:
    """Return the cells of the table of splits as plain text, as SPLIT_HEAD names them."""
    rows = []
    for split in result.splits:
        if split.dataset is None:
            rows.append([split.name, "absent", "", "", "", ""])
            continue
        statistics = result.statistics[split.name]
        official = split.official_images
        rows.append(
            [
                split.name,
                f"{statistics.listed}",
                "" if official is None else f"{official}",
                f"{len(statistics.counts)}",
                f"{statistics.pixels / 1e6:.1f}M",
                f"{100 * statistics.ignored_share:.2f}%",
            ]
        )
    return rows


def _verdict(result: CheckResult) -> str:
    number = len(result.problems)
    if not number:
        return f'<p class="verdict">Passes: every listed pair can be used, and {escape(result.sharing)}.</p>'
    lines = "".join(f"<li>{escape(problem)}</li>" for problem in result.problems)
    return f'<p class="verdict bad">{number} problem{"s" if number > 1 else ""}</p><ul class="problems">{lines}</ul>'


def _hard_classes(spec: DatasetSpec, statistics: SplitStatistics) -> str:
    """Rarest first; the columns answer "which images would be repeated, and what would come along with them?"."""
    images, shares, areas = statistics.images_of, statistics.pixel_share_of, statistics.typical_area_of
    total = max(1, len(statistics.counts))
    rows = []
    for label in sorted(_objects(spec), key=lambda label: float(shares[label])):
        twice = statistics.repeated_images([label], factor=2)
        rows.append(
            [
                f"{chip(spec.palette[label])}{escape(spec.classes[label])}",
                f"{images[label]}",
                f"{100 * images[label] / total:.1f}%",
                f"{100 * shares[label]:.3f}%",
                f"{100 * areas[label]:.2f}%",
                f"{_with_others(spec, statistics, label)}",
                f"+{100 * (twice / total - 1):.1f}%",
                escape(_companions(spec, statistics, label)),
            ]
        )
    head = (
        "class, rarest first",
        "images",
        "of all images",
        "of all pixels",
        "median area where shown",
        "images with other classes",
        "epoch if repeated once",
        "most often with",
    )
    note = (
        '<p class="soft">DeepLabv3 (section 4.3) repeats the training images of its hard classes: bicycle, chair, '
        "dining table, potted plant and sofa. A class is worth it when it is small or rare here, scores badly, and its "
        "images are few enough to be repeated without changing what else is seen.</p>"
    )
    return table(head, rows, text=(0, 7)) + note


def _objects(spec: DatasetSpec) -> list[int]:
    """Classes that can be company: all but a background that is everywhere."""
    return [label for label, name in enumerate(spec.classes) if name != "background"]


def _with_others(spec: DatasetSpec, statistics: SplitStatistics, label: int) -> int:
    others = [other for other in _objects(spec) if other != label]
    present = statistics.present
    return int((present[:, label] & present[:, others].any(1)).sum())


def _companions(spec: DatasetSpec, statistics: SplitStatistics, label: int) -> str:
    together = statistics.together[label]
    others: Sequence[int] = sorted((other for other in _objects(spec) if other != label), key=lambda c: -together[c])
    return ", ".join(f"{spec.classes[other]} {together[other]}" for other in others[:3] if together[other])
