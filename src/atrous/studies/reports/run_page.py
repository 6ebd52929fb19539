"""The page of a run: how it stands, what it was measured at, its curves, its command and its config."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from html import escape
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from atrous.evaluation.entry import interval_text
from atrous.files import write_text
from atrous.html import card, cards, table
from atrous.studies.reports.charts import curve
from atrous.studies.reports.forms import duration
from atrous.studies.reports.frame import between, frame, label_of, link, warning
from atrous.studies.reports.rows import OtherBudget
from atrous.studies.reports.store import DamagedRun, StoredRun, is_own
from atrous.studies.table import Table
from atrous.svg import Points

_CURVES = {"train/loss": "loss", "train/lr": "learning rate", "val/miou": "mIoU on val, percent"}
_PERCENT = ("val/miou",)
_DOCTYPE = "<!doctype html>"
# Of a copied page, whoever made it: its own styles and pictures that are part of it, no script, and nothing from
# elsewhere. It stands before everything else in the page, as it holds only for what comes after it.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


@dataclass(frozen=True)
class Use:
    """A row of a table that a run is, with the page of the table; `other_budget` where its budget is not the row's."""

    table: Table
    row: str
    page: PurePosixPath
    other_budget: OtherBudget | None = None


def write_run_page(
    run: StoredRun, site: Path, page: PurePosixPath, *, uses: Sequence[Use], way: Sequence[tuple[str, PurePosixPath]]
) -> tuple[list[PurePosixPath], DamagedRun | None]:
    """Write the page of a run and copies of its evaluation pages into a site.

    Returns:
        The files, relative to the site; and where its files are such that no page can be made, the reason, which is all
        that the page then says.
    """
    try:
        texts, damaged = _render_all(run, page, uses, way), None
    except Exception as error:  # one odd run is not to cost the report of all others
        reason = f"{run.folder.path}: its page cannot be made ({type(error).__name__}: {error})"
        texts, damaged = {page: _stand_in(run, page, reason, way)}, DamagedRun(run.folder.path, reason)
    for path, text in texts.items():
        write_text(site / path, text)
    return [*texts], damaged


def _render_all(
    run: StoredRun, page: PurePosixPath, uses: Sequence[Use], way: Sequence[tuple[str, PurePosixPath]]
) -> dict[PurePosixPath, str]:
    """The page of a run and those of its evaluations, by where they lie in the site."""
    found = {entry: _evaluation_page(run, entry) for entry in run.evaluations}
    copies = {entry: text for entry, text in found.items() if text is not None}
    pages = {entry: page.parent / "evaluation" / entry / "index.html" for entry in copies}
    return {page: _render(run, page, pages, uses, way), **{pages[entry]: text for entry, text in copies.items()}}


def _stand_in(run: StoredRun, page: PurePosixPath, reason: str, way: Sequence[tuple[str, PurePosixPath]]) -> str:
    above = [(text, between(page, other)) for text, other in way]
    return frame(f"{run.name}, seed {run.seed}", f'<p class="bad">{escape(reason)}</p>', way=above)


def _evaluation_page(run: StoredRun, entry: str) -> str | None:
    """The page of an evaluation, for a copy; None where there is none that is the run's own."""
    source = run.folder.evaluation_folder(entry) / "index.html"
    if not is_own(source, run.folder.path) or not source.is_file():
        return None
    text = source.read_text(encoding="utf-8", errors="replace").removeprefix(_DOCTYPE)
    return f'{_DOCTYPE}<meta http-equiv="Content-Security-Policy" content="{_POLICY}">{text}'


def read_curves(path: Path) -> dict[str, Points]:
    """The columns of metrics.csv that are drawn; a torn line, or zeros that a power cut left, are left out."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in _CURVES}
    if not path.is_file():
        return {}
    with path.open(newline="", errors="replace") as stream:
        for line in csv.DictReader(text.replace("\0", "") for text in stream):
            step = _number(line.get("step"))
            for name, points in found.items():
                value = _number(line.get(name))
                if step is not None and value is not None:
                    points.append((step, 100 * value if name in _PERCENT else value))
    return {name: points for name, points in found.items() if points}


def _render(
    run: StoredRun,
    page: PurePosixPath,
    pages: Mapping[str, PurePosixPath],
    uses: Sequence[Use],
    way: Sequence[tuple[str, PurePosixPath]],
) -> str:
    parts = [_cards(run)]
    if run.state == "failed":
        reason = str(run.status.get("traceback") or run.status.get("reason") or "no reason was written")
        parts += ["<h2>Why it failed</h2>", f"<pre>{escape(reason)}</pre>"]
    parts += [_uses(uses, page), _evaluations(run, page, pages), _curves(run)]
    parts += ["<h2>Command</h2>", f'<pre class="wrap">{escape(str(run.facts["command"]))}</pre>']
    if run.facts.get("parent"):
        parts.append(f"<p>It starts from the weights of <code>{escape(str(run.facts['parent']))}</code>.</p>")
    parts += ["<h2>Status</h2>", _keys(_status(run))]
    config = escape(yaml.safe_dump(dict(run.config), sort_keys=False))
    parts.append(f"<h2>Config</h2><details><summary>config.yaml, resolved</summary><pre>{config}</pre></details>")
    above = [(text, between(page, other)) for text, other in way]
    return frame(f"{run.name}, seed {run.seed}", "".join(parts), label=_label(uses), way=above)


def _label(uses: Sequence[Use]) -> str:
    """The label of the best that the run is part of, and of another budget."""
    tables = [use.table for use in uses if use.other_budget is None]
    others = [use.other_budget for use in uses if use.other_budget is not None]
    if tables:
        return label_of(max(tables, key=lambda table: table.is_reproduction))
    return warning(str(others[0]) if others else "no row of a table of the papers")


def _cards(run: StoredRun) -> str:
    step = int(run.status.get("step") or 0)
    parts = [card(run.state, "state", detail=f"step {step} of {run.max_steps}")]
    if run.evaluations:
        name, entry = next(iter(run.evaluations.items()))
        parts.append(card(f"{100 * entry['miou']:.2f}%", f"mIoU, {name}", detail=interval_text(entry), main=True))
    training, model = run.results.get("training", {}), run.results.get("model", {})
    if "parameters" in model:
        parts.append(card(f"{model['parameters'] / 1e6:.2f}M", "parameters"))
    if "multiply_adds" in model:
        size = "x".join(map(str, model.get("size", ())))
        parts.append(card(f"{model['multiply_adds'] / 1e9:.3f}B", "Multiply-Adds", detail=f"at {size}"))
    if "seconds" in training:
        speed = training.get("images_per_second")
        parts.append(card(duration(training["seconds"]), "wall time", detail=f"{speed} images/s" if speed else ""))
    return cards(parts)


def _uses(uses: Sequence[Use], page: PurePosixPath) -> str:
    if not uses:
        return ""
    lines = []
    for use in uses:
        text = f"{use.table.paper or use.table.name}{f', scale {use.table.scale}' if use.table.scale else ''}"
        told = f": {use.other_budget}" if use.other_budget else ""
        lines.append(f"<li>{link(text, between(page, use.page))}, row {escape(use.row)}{escape(told)}</li>")
    return f"<h2>A row of</h2><ul>{''.join(lines)}</ul>"


def _evaluations(run: StoredRun, page: PurePosixPath, pages: Mapping[str, PurePosixPath]) -> str:
    if not run.evaluations:
        return '<h2>Results</h2><p class="soft">None: the training has not reached its last step.</p>'
    rows = []
    for name, entry in run.evaluations.items():
        see = link("page", between(page, pages[name])) if name in pages else ""
        accuracy = entry.get("pixel_accuracy")
        share = "" if accuracy is None else f"{100 * accuracy:.2f}"
        weights = str(entry.get("checkpoint", ""))
        images = str(entry.get("images", ""))
        miou = [f"{100 * entry['miou']:.2f}", interval_text(entry)]
        rows.append([escape(name), *miou, share, images, escape(weights), see])
    head = ("protocol", "mIoU %", "95% interval", "pixel accuracy %", "images", "weights", "evaluation")
    return f"<h2>Results</h2>{table(head, rows)}"


def _curves(run: StoredRun) -> str:
    found = read_curves(run.folder.path / "metrics.csv")
    if not found:
        return '<h2>Curves</h2><p class="soft">Nothing logged yet.</p>'
    charts = "".join(f"<figure>{curve(points, title=_CURVES[name])}</figure>" for name, points in found.items())
    return f'<h2>Curves</h2><div class="side">{charts}</div>'


def _status(run: StoredRun) -> dict[str, Any]:
    status = {key: value for key, value in run.status.items() if key not in ("traceback", "format", "updated")}
    updated = run.status.get("updated")
    if isinstance(updated, int | float):
        status["updated"] = datetime.fromtimestamp(updated, tz=timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return {**status, **{f"training {key}": value for key, value in run.results.get("training", {}).items()}}


def _keys(values: Mapping[str, Any]) -> str:
    lines = [
        f'<span><span class="soft">{escape(key)}</span> {escape(_short(value))}</span>' for key, value in values.items()
    ]
    return f'<p class="legend keys">{"".join(lines)}</p>'


def _short(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
