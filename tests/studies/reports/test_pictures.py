"""The figure beside a table: what is drawn, from which numbers, and where the page shows it."""

import json
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from PIL import Image

from atrous.errors import ConfigError
from atrous.studies.reports.pictures import trimap_curve, write_picture
from atrous.studies.reports.report import write_table
from atrous.studies.reports.rows import RowResult, SeedResult, TableResult
from atrous.studies.table import Row, Table


def _row(folder: Path, name: str, *curves: list[float | None]) -> RowResult:
    """A row with a finished seed per curve, over bands of 1 and 4 pixels."""
    seeds = []
    for seed, curve in enumerate(curves):
        path = folder / name / f"seed{seed}"
        path.mkdir(parents=True)
        boundary = {"trimap_widths": [1, 4], "trimap_miou": curve}
        content = {"format": 1, "evaluations": {"single": {"miou": 0.5, "boundary": boundary}}}
        (path / "results.json").write_text(json.dumps(content))
        seeds.append(SeedResult(seed, "done", path, 2, 2, curve[0]))
    row = Row(name, (), {"decoder": name == "decoder"})
    return RowResult(row=row, command="atrous-train", seeds=tuple(seeds), metric="trimap")


def _table(*rows: RowResult, picture: str) -> TableResult:
    table = Table("p/figure", "Bands", tuple(row.row for row in rows), paper="A paper, Figure 5", picture=picture)
    return TableResult(table, rows)


def test_a_curve_is_the_mean_over_seeds_in_percent_without_empty_bands(tmp_path: Path) -> None:
    row = _row(tmp_path, "decoder", [0.2, 0.5], [0.4, None])
    np.testing.assert_allclose(trimap_curve(row), [(1, 30), (4, 50)])


def test_the_picture_lies_beside_the_page_that_shows_it_and_is_a_file_of_the_site(tmp_path: Path) -> None:
    result = _table(_row(tmp_path, "plain", [0.2, 0.5]), _row(tmp_path, "decoder", [0.3, 0.6]), picture="trimap")
    files = write_table(result, tmp_path / "site", PurePosixPath("tables/f/index.html"))
    picture = PurePosixPath("tables/f/trimap.png")
    assert picture in files
    assert 'src="trimap.png"' in (tmp_path / "site" / "tables" / "f" / "index.html").read_text()
    with Image.open(tmp_path / "site" / picture) as image:
        pixels = np.asarray(image.convert("RGB"))
    border = np.concatenate([pixels[:, :2].reshape(-1, 3), pixels[:, -2:].reshape(-1, 3)])
    assert (border == 255).all(), "something is cut off at a side"


def test_nothing_is_drawn_before_anything_is_measured(tmp_path: Path) -> None:
    result = _table(_row(tmp_path, "plain"), picture="trimap")
    assert write_picture(result, tmp_path / "site") is None
    assert not (tmp_path / "site").exists()


def test_a_picture_that_does_not_exist_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="picture='figure9' is none of figure4, trimap"):
        write_picture(_table(picture="figure9"), tmp_path)
