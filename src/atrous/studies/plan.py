"""What all tables of both papers need: rows, distinct trainings, evaluations, and an estimate of GPU hours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose
from rich.console import Console

from atrous.building import build_network
from atrous.files import write_text
from atrous.networks.complexity import multiply_adds
from atrous.networks.dry_run import without_weights
from atrous.progress import doing
from atrous.studies.command_line import sweep_of
from atrous.studies.composing import naming_row
from atrous.studies.configuration import Config, resolve
from atrous.studies.parents import compose_parent, identity_of
from atrous.studies.reports.forms import markdown_table
from atrous.studies.table_names import table_names
from atrous.terminal import plain_table, say

_FORWARD_AND_BACKWARD = 3  # the backward pass costs two forward passes
_CLASSES = 21


@dataclass(frozen=True)
class PlannedTable:
    """One table.

    Attributes:
        name: Of the table.
        rows: Rows as printed.
        unreachable: Rows that are shown only.
        trainings: Trainings that no table before it has.
        shared: Trainings that a table before it has.
        hours: GPU hours of its own trainings.
    """

    name: str
    rows: int
    unreachable: int
    trainings: int
    shared: int
    hours: float


def planned_tables(*, scale: str, tflops: float) -> Iterator[PlannedTable]:
    """Go through every table in the order of the papers; needs an initialised Hydra, trains nothing.

    Args:
        scale: At which the tables are run.
        tflops: Sustained speed of one GPU in TFLOP/s, two operations per Multiply-Add.
    """
    seen: set[str] = set()
    for table in table_names():
        arguments = [f"+experiment={table}", f"scale={scale}", "data.root=."]
        sweep = sweep_of(compose(config_name="train", overrides=arguments), arguments)
        hours, fresh, shared = 0.0, 0, 0
        for row, overrides in sweep.jobs():
            with naming_row(f"{row.name} of {table}"):
                config = resolve(compose(config_name="train", overrides=overrides))
                chain: tuple[Config, list[str]] | None = (config, overrides)
                while chain is not None:  # a training, then those that it starts from
                    name = identity_of(*chain).name
                    if name in seen:
                        shared += chain[0] is config
                        break
                    seen.add(name)
                    fresh += 1
                    hours += training_operations(chain[0]) / (tflops * 1e12) / 3600
                    chain = compose_parent(*chain)
        unreachable = sum(bool(row.unreachable) for row in sweep.table.rows)
        yield PlannedTable(table, len(sweep.table.rows), unreachable, fresh, shared, hours)


def training_operations(config: Mapping[str, Any]) -> float:
    """Estimate the floating-point operations of a training: Multiply-Adds at the crop, images, forward and backward."""
    recipe = config["recipe"]
    with without_weights():
        network = build_network(config, num_classes=_CLASSES, pretrained=False)
    cost = multiply_adds(network, size=(recipe["crop_size"], recipe["crop_size"]))
    images = int(recipe["batch_size"]) * int(recipe["max_steps"])
    return 2.0 * cost.true * _FORWARD_AND_BACKWARD * images


def write_plan(folder: Path, *, scale: str, tflops: float, console: Console) -> None:
    """Print the plan and write plan.md into `folder`."""
    planned = []
    with doing("planning", console) as tell:
        for table in planned_tables(scale=scale, tflops=tflops):
            tell(f"planning: {table.name}")
            planned.append(table)
    titles = ["table", "rows", "shown only", "trainings", "shared with a table above", "GPU hours"]
    lines = [
        [table.name, table.rows, table.unreachable, table.trainings, table.shared, f"{table.hours:.1f}"]
        for table in planned
    ]
    sums = [sum(column) for column in zip(*[line[1:5] for line in lines], strict=True)]
    lines.append(["all", *sums, f"{sum(table.hours for table in planned):.1f}"])
    texts = [[*map(str, line)] for line in lines]
    title = f"Every table of both papers, scale {scale}, one seed"
    console.print(plain_table(title, titles, texts, words=("table",)))
    note = (
        f"GPU hours: Multiply-Adds at the training crop x 2 operations x {_FORWARD_AND_BACKWARD} (forward and backward)"
        f" x images, at {tflops:g} TFLOP/s sustained (tflops=...); evaluations and loading are not counted."
    )
    say(console, note)
    write_text(folder / "plan.md", "\n".join(["# Plan", "", *markdown_table(titles, texts), "", note, ""]))
    say(console, f"report: {folder / 'plan.md'}")
