"""Multiply-Adds and parameters beside the papers': DeepLabv3+ Tables 3 and 5, and the released models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra import compose
from rich.console import Console

from atrous.building import build_network
from atrous.evaluation.protocol import Protocol, load_protocol
from atrous.files import write_text
from atrous.networks.complexity import Complexity, multiply_adds
from atrous.networks.dry_run import without_weights
from atrous.networks.segmenter import Segmenter
from atrous.progress import doing
from atrous.studies.configuration import resolve
from atrous.studies.reports.forms import markdown_table
from atrous.terminal import plain_table, say
from atrous.weights.released import build_preset
from atrous.weights.zoo import preset, presets

TABLES = {"deeplabv3plus/table3": "v3+ Table 3", "deeplabv3plus/table5": "v3+ Table 5"}
MISPRINT = 101.28  # DeepLabv3+, Table 3, with decoder at evaluation stride 16
_EXPLANATION = (
    "101.28B is most likely a misprint of the paper: the official graph gives 102.78B, and the multi-scale figure of "
    "the same model (898.69B) fits that."
)
_SIZE = (513, 513)
_SIZES = {"cityscapes": (1025, 2049)}  # whole images, padded


@dataclass(frozen=True)
class CountedRow:
    """One row: what is printed and what was counted.

    Attributes:
        group: The table, or the zoo.
        name: The row.
        paper: Billions of Multiply-Adds, as printed.
        counted: The true count, the papers' convention, and the parameters.
    """

    group: str
    name: str
    paper: float
    counted: Complexity

    @property
    def difference(self) -> float:
        """Counted in the papers' convention against printed, in percent."""
        return 100 * (self.counted.paper / 1e9 / self.paper - 1)


def counted_rows() -> Iterator[CountedRow]:
    """Yield every row that has a printed figure; needs an initialised Hydra, computes nothing but shapes."""
    for table, title in TABLES.items():
        networks: dict[tuple[str, ...], Segmenter] = {}
        experiment = compose(config_name="train", overrides=[f"+experiment={table}", "data.root=."]).experiment
        for row in experiment.rows:
            overrides = (*experiment.overrides, *row.overrides)
            if overrides not in networks:
                networks[overrides] = configured_network(overrides)
            counted = _count(networks[overrides], load_protocol(row.protocol))
            yield CountedRow(title, row.name, float(row.paper["multiply_adds"]), counted)
    for found in map(preset, presets()):
        for expected in (score for score in found.expected if score.multiply_adds is not None):
            with without_weights():
                model = build_preset(found)
            protocol = Protocol(output_stride=expected.output_stride, scales=expected.scales, flip=expected.flip)
            counted = _count(model, protocol, size=_SIZES.get(found.dataset, _SIZE))
            label = f"{found.name}-os{expected.output_stride}{'-ms-flip' if expected.flip else ''}"
            yield CountedRow("zoo", label, expected.multiply_adds or 0.0, counted)


def configured_network(overrides: Sequence[str]) -> Segmenter:
    """Build the network of a run's overrides on the meta device; needs an initialised Hydra."""
    config = compose(config_name="train", overrides=[*overrides, "data.root=."])
    plain = resolve(config)
    with without_weights():
        network: Segmenter = build_network(plain, num_classes=21, pretrained=False)
    return network


def _count(model: Segmenter, protocol: Protocol, *, size: tuple[int, int] = _SIZE) -> Complexity:
    model.set_output_stride(protocol.output_stride or model.output_stride)
    return multiply_adds(model, size=size, scales=protocol.scales, flip=protocol.flip)


def write_complexity(folder: Path, *, console: Console) -> None:
    """Print the rows as they are counted, and write complexity.md into `folder`."""
    rows = []
    with doing("counting", console) as tell:
        for row in counted_rows():
            tell(f"counting: {row.group} {row.name}")
            rows.append(row)
    titles = ["table", "row", "papers print", "papers' convention", "difference", "true count", "parameters"]
    texts = [cells(row) for row in rows]
    title = "Multiply-Adds in billions for one image"
    console.print(plain_table(title, titles, texts, words=("table", "row"), folds=True))
    say(console, f"* {_EXPLANATION}")
    lines = ["# Multiply-Adds", "", *markdown_table(titles, texts), "", f"\\* {_EXPLANATION}", ""]
    write_text(folder / "complexity.md", "\n".join(lines))
    say(console, f"report: {folder / 'complexity.md'}")


def cells(row: CountedRow) -> list[str]:
    """Return a row as text."""
    mark = " *" if row.paper == MISPRINT else ""
    return [
        row.group,
        row.name,
        f"{row.paper:.2f}{mark}",
        f"{row.counted.paper / 1e9:.2f}",
        f"{row.difference:+.2f}%",
        f"{row.counted.true / 1e9:.2f}",
        f"{row.counted.parameters / 1e6:.2f}M",
    ]
