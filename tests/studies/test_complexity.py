"""The rows of `atrous-report complexity`: the configs' networks, the zoo's, and what is printed of them."""

from __future__ import annotations

import functools
import io
import re
from pathlib import Path

import pytest
import torch
from rich.console import Console

from atrous.networks.complexity import Complexity, multiply_adds
from atrous.networks.deeplab import DeepLabV3, DeepLabV3Plus
from atrous.studies import complexity
from atrous.studies.complexity import CountedRow, cells, configured_network, counted_rows, write_complexity

pytestmark = [pytest.mark.slow, pytest.mark.no_cover]  # what it runs is counted in other tests, in half the time

SINGLE = ("train16-plain-single-os16", "train16-decoder-single-os16", "train32-plain-single-os32")


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, hydra_app: None) -> None:
    """One table, of which multi-scale rows cost nothing, and one released model."""
    real = complexity._count

    def count(model: object, protocol: object, **options: object) -> Complexity:
        return real(model, protocol, **options) if len(protocol.scales) == 1 else Complexity(1, 1, 1)  # type: ignore[arg-type, attr-defined]

    monkeypatch.setattr(complexity, "_count", count)
    monkeypatch.setattr(complexity, "TABLES", {"deeplabv3plus/table3": "v3+ Table 3"})
    monkeypatch.setattr(
        complexity, "presets", lambda: ("mobilenetv2_coco_cityscapes_trainfine", "xception_41_imagenet")
    )


@functools.cache
def _counted() -> tuple[CountedRow, ...]:
    """The rows of `few`, which take seconds."""
    return tuple(counted_rows())


@pytest.mark.usefixtures("few")
def test_rows_are_those_of_the_tables_and_the_released_models() -> None:
    rows = {row.name: row for row in _counted()}
    assert len(rows) == 14 + 2
    assert {row.group for row in rows.values()} == {"v3+ Table 3", "zoo"}
    for name in SINGLE:
        assert abs(rows[name].difference) < (1.5 if rows[name].paper == 101.28 else 0.4)
    assert rows["train16-decoder-single-os16"].paper == 101.28
    assert rows["train16-decoder-single-os16"].counted.parameters == pytest.approx(59.47e6, abs=5e3)
    street = rows["mobilenetv2_coco_cityscapes_trainfine-os16"]  # at 1025x2049, with 19 classes
    assert street.paper == 21.27
    assert abs(street.difference) < 0.4
    assert rows["mobilenetv2_coco_cityscapes_trainfine-os8-ms-flip"].paper == 433.24


@pytest.mark.usefixtures("few")
def test_what_is_printed_is_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _counted()
    monkeypatch.setattr(complexity, "counted_rows", _counted)
    stream = io.StringIO()
    write_complexity(tmp_path / "new", console=Console(file=stream, width=200))
    text, written = stream.getvalue(), (tmp_path / "new" / "complexity.md").read_text()
    rows = [line for line in written.splitlines() if line.startswith("| v3+") or line.startswith("| zoo")]
    assert len(rows) == 16
    for name in SINGLE:
        (line,) = (line for line in rows if f"| {name} |" in line)
        for cell in (cell.strip() for cell in line.strip("| ").split("|")):
            assert cell in text
    assert [line.split(" | ")[1] for line in rows if " * " in line] == [
        "train16-decoder-single-os16",
        "train32-decoder-single-os16",
    ]
    assert re.search(r"\\\* 101\.28B is most likely a misprint .* 102\.78B", written)
    assert "101.28B is most likely a misprint" in text
    assert f"report: {tmp_path / 'new' / 'complexity.md'}" in text


@pytest.mark.usefixtures("hydra_app")
def test_a_network_is_built_as_a_run_of_the_overrides_would() -> None:
    overrides = ("backbone=resnet18", "model=deeplabv3plus", "model.aspp_separable=true", "data=voc")
    network = configured_network(overrides)
    assert isinstance(network, DeepLabV3Plus)
    assert {parameter.device.type for parameter in network.parameters()} == {"meta"}
    with torch.device("meta"):
        plain = DeepLabV3Plus(backbone="resnet18", aspp_separable=True)
    assert multiply_adds(network, size=(65, 65)) == multiply_adds(plain, size=(65, 65))
    assert isinstance(configured_network(("backbone=resnet18", "model=deeplabv3")), DeepLabV3)


@pytest.mark.parametrize(
    ("paper", "counted", "difference", "mark"), [(100.0, 99.5e9, "-0.50%", ""), (101.28, 102.78e9, "+1.48%", " *")]
)
def test_cells_say_the_difference_in_percent_of_the_paper(
    paper: float, counted: float, difference: str, mark: str
) -> None:
    row = CountedRow("table", "row", paper, Complexity(true=90_004_000_000, paper=int(counted), parameters=41_056_000))
    assert cells(row) == [
        "table",
        "row",
        f"{paper:.2f}{mark}",
        f"{counted / 1e9:.2f}",
        difference,
        "90.00",
        "41.06M",
    ]
