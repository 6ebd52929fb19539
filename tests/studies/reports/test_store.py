"""Which folders of a store are its runs: those that lie in the place of theirs."""

import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
from omegaconf import DictConfig

from atrous.studies import jobs
from atrous.studies.reports.index import render_index
from atrous.studies.reports.results import collect
from atrous.studies.reports.store import read_store
from atrous.studies.reports.table_page import render_page
from atrous.studies.reports.words import headline
from atrous.studies.table import Sweep

from ..conftest import FakeJobs

pytestmark = [pytest.mark.slow, pytest.mark.no_cover]  # counted in other tests, in half the time

Swept = Callable[..., tuple[DictConfig, Sweep]]
Compose = Callable[..., DictConfig]


@pytest.fixture
def sweep(swept: Swept) -> Sweep:
    """One row of DeepLabv3's Table 1."""
    return swept("+experiment=deeplabv3/table1", "scale=smoke", "rows=[os8]")[1]


@pytest.fixture
def run(sweep: Sweep, composed: Compose, fake_jobs: FakeJobs, tmp_path: Path) -> Path:
    """The folder of its training, which scored 0.8%, in a store."""
    ((_, overrides),) = sweep.jobs()
    job = jobs.prepare(composed(*overrides, f"store={tmp_path / 'store'}"), overrides)
    jobs.run(job, capture=True)
    return job.folder.path


def test_a_run_that_was_moved_or_copied_aside_is_told_and_never_taken_for_the_fresh_one(
    sweep: Sweep, run: Path, tmp_path: Path
) -> None:
    copies = [run.with_name("seed0.old"), run.with_name("seed1"), tmp_path / "store/runs/backup/seed0"]
    for copy in copies:
        shutil.copytree(run, copy)
        results = copy / "results.json"
        results.write_text(results.read_text().replace('"miou": 0.008', '"miou": 0.99'))
    result = collect(sweep, store=tmp_path / "store")
    assert result.rows[0].scores == pytest.approx([0.8])
    assert [seed.folder for seed in result.rows[0].seeds] == [run]
    said = headline(result)
    told = said.index("3 run folders that were moved or copied aside are left out:")
    assert said[told + 1 :] == [f"  {copy}" for copy in sorted(copies)]
    page = render_page(result, page=PurePosixPath("index.html"))
    index = render_index(read_store(tmp_path / "store"), {}, {}, table_page=lambda result: PurePosixPath("none"))
    for text in (page, index):
        assert text.count("moved or copied aside") == 1
        assert all(f"<li>{copy}</li>" in text for copy in copies)


def test_a_row_whose_run_was_moved_aside_is_not_trained(sweep: Sweep, run: Path, tmp_path: Path) -> None:
    run.rename(run.with_name("seed0.old"))
    result = collect(sweep, store=tmp_path / "store")
    assert result.rows[0].state == "not trained"
    assert "1 run folder that was moved or copied aside is left out:" in headline(result)
