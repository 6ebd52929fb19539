"""A sweep from the command line to the report, with jobs that take milliseconds."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hydra.core.utils import JobReturn
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig

from atrous.commands.explain import explain
from atrous.errors import ConfigError, RowError, StoreError
from atrous.studies.local import launch, prepare_all
from atrous.studies.sweeping import SweepError, load_sweep, report_sweep, run_sweep, save_sweep
from atrous.studies.table import Sweep
from atrous.studies.table_classes import check_class

from .conftest import FakeJobs

pytestmark = pytest.mark.slow

Swept = Callable[..., tuple[DictConfig, Sweep]]
Compose = Callable[..., DictConfig]


class _Launcher:
    """Our launcher without Hydra around it."""

    def __init__(self, composed: Compose, store: Path, *, fail_fast: bool = False) -> None:
        self._composed, self._store, self._fail_fast = composed, store, fail_fast
        self.asked: list[list[str]] = []

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        self.asked = [list(overrides) for overrides in job_overrides]

        def compose(overrides: Sequence[str]) -> DictConfig:
            return self._composed(*overrides, f"store={self._store}")

        return launch(job_overrides, compose, jobs_at_once=2, fail_fast=self._fail_fast)


@pytest.fixture
def sweep_of(swept: Swept, composed: Compose, tmp_path: Path, fake_jobs: FakeJobs) -> Callable[..., list[JobReturn]]:
    """Runs `atrous-train -m OVERRIDES` in tmp_path / store with fake jobs."""

    def run(*overrides: str, fail_fast: bool = False) -> list[JobReturn]:
        store = tmp_path / "store"
        arguments = [*overrides, f"store={store}", "trainer.accelerator=cpu"]
        config, _ = swept(*arguments)
        return run_sweep(config, arguments, _Launcher(composed, store, fail_fast=fail_fast))  # type: ignore[arg-type]

    return run


def _table(store: Path) -> list[dict[str, str]]:
    (file,) = store.glob("reports/**/table.csv")
    with file.open() as stream:
        return list(csv.DictReader(stream))


def test_a_free_sweep_reports_what_was_swept_with_seeds_averaged(
    sweep_of: Callable[..., list[JobReturn]], tmp_path: Path
) -> None:
    returns = sweep_of("output_stride=8,16", "seed=1,2")
    assert [job.return_value for job in returns] == pytest.approx([0.018, 0.026, 0.028, 0.036])
    assert len(list(tmp_path.glob("store/runs/*/seed*/results.json"))) == 4
    rows = _table(tmp_path / "store")
    assert [(row["output_stride"], row["seeds"]) for row in rows] == [("8", "2"), ("16", "2")]
    assert [float(row["measured_mean"]) for row in rows] == pytest.approx([2.3, 3.1])


def test_a_second_sweep_runs_only_what_is_new(sweep_of: Callable[..., list[JobReturn]], fake_jobs: FakeJobs) -> None:
    sweep_of("output_stride=8,16")
    sweep_of("output_stride=8,16,32")
    assert sum(event == "start" for event, *_ in fake_jobs.events()) == 3


def test_a_sweep_with_failures_keeps_the_rest_reports_it_and_lists_them(
    sweep_of: Callable[..., list[JobReturn]], fake_jobs: FakeJobs, tmp_path: Path
) -> None:
    fake_jobs.behave(os8="kill", os32="fail")
    with pytest.raises(SweepError) as caught:
        sweep_of("+experiment=deeplabv3/table1", "scale=smoke", "rows=[os8,os16,os32]")
    lines = str(caught.value).splitlines()
    assert lines[0] == "2 of 3 runs have no result"
    assert "os8 (seed 0) failed: killed by SIGKILL" in str(caught.value)
    assert "os32 (seed 0) failed: the loss is nan" in str(caught.value)
    assert [row["seeds"] for row in _table(tmp_path / "store")] == ["0", "1", "0"]
    assert caught.value.exit_code == 1


def test_a_report_that_cannot_be_written_is_told_beside_the_runs_that_failed(
    sweep_of: Callable[..., list[JobReturn]], fake_jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "reports/x")

    fake_jobs.behave(os8="kill")
    monkeypatch.setattr("atrous.studies.sweeping.write_report", refuse)
    with pytest.raises(SweepError) as caught:
        sweep_of("+experiment=deeplabv3/table1", "scale=smoke", "rows=[os8,os16]")
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(
        "the report cannot be written ([Errno 13] Permission denied: 'reports/x'); atrous-report"
    )
    assert lines[1] == "1 of 2 runs have no result"


@pytest.mark.parametrize(
    ("name", "overrides"),
    [("reports", ("+experiment=deeplabv3/table1", "scale=smoke")), ("sweeps", ("data=shapes", "output_stride=8,16"))],
)
def test_a_store_whose_reports_or_sweeps_cannot_be_written_is_refused_before_the_start(
    sweep_of: Callable[..., list[JobReturn]], tmp_path: Path, name: str, overrides: tuple[str, ...]
) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / name).touch()
    with pytest.raises(ConfigError, match=rf"store='.*/store' cannot be used: .*/store/{name} is not a folder"):
        sweep_of(*overrides)
    assert not (tmp_path / "store" / "runs").exists()


def test_runs_that_stop_where_they_were_asked_to_are_no_failures_and_go_on_without_it(
    sweep_of: Callable[..., list[JobReturn]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ("output_stride=8,16", "recipe.max_steps=4")
    sweep_of(*words, "trainer.stop_at_step=3")
    assert "2 of 2 runs stopped at trainer.stop_at_step, as asked" in capsys.readouterr().out
    assert [row["measured_mean"] for row in _table(tmp_path / "store")] == ["", ""]
    assert [job.return_value for job in sweep_of(*words)] == pytest.approx([0.008, 0.016])


def test_a_failure_beside_runs_that_stop_as_asked_is_the_only_one_that_is_listed(
    sweep_of: Callable[..., list[JobReturn]], fake_jobs: FakeJobs
) -> None:
    fake_jobs.behave(**{"8": "fail"})
    with pytest.raises(SweepError) as failed:
        sweep_of("output_stride=8,16", "recipe.max_steps=4", "trainer.stop_at_step=3")
    assert str(failed.value).startswith("1 of 2 runs have no result")
    assert "as asked" not in str(failed.value)


def test_fail_fast_leaves_the_rest_for_later(sweep_of: Callable[..., list[JobReturn]], fake_jobs: FakeJobs) -> None:
    fake_jobs.behave(os8="fail", os16="hang")
    with pytest.raises(SweepError, match="3 of 3 runs have no result"):
        sweep_of("+experiment=deeplabv3/table1", "scale=smoke", "rows=[os8,os16,os32]", fail_fast=True)
    assert {row for *_, row, _ in fake_jobs.events()} <= {"os8", "os16"}


def test_no_job_starts_when_one_cannot_be_run(
    sweep_of: Callable[..., list[JobReturn]], fake_jobs: FakeJobs, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="output_stride=12"):
        sweep_of("output_stride=8,12")
    with pytest.raises(ConfigError, match=r"row os8: data\.root has no value"):
        sweep_of("+experiment=deeplabv3/table1")
    with pytest.raises(RowError, match="row x: ") as refused:  # Hydra's own error, which says where it was
        sweep_of("output_stride=8,x")
    assert explain(refused.value, config_name="train") == "row x: output_stride=x: must be a whole number"
    with pytest.raises(RowError, match=r"row 3: Config group override must be"):  # which Hydra falls over
        sweep_of("trainer=3,default")
    assert fake_jobs.events() == []
    assert not list(tmp_path.glob("store/runs/*"))
    assert not (tmp_path / "store").exists(), "nor is it one that atrous-report could show"


def test_a_table_by_a_class_that_its_data_set_lacks_is_refused_before_the_first_training(
    sweep_of: Callable[..., list[JobReturn]], swept: Swept, fake_jobs: FakeJobs, tmp_path: Path
) -> None:
    (tmp_path / "classes.yaml").write_text("[road, tree]")
    table = "+experiment=deeplabv3/bootstrapping"
    file = r"^experiments/deeplabv3/bootstrapping\.yaml: metric='iou:bicycle'"
    with pytest.raises(ConfigError, match=file + r": .* row '.*' has no class 'bicycle'; it has road, tree$"):
        sweep_of(table, "data=folder", f"data.root={tmp_path}", "data.classes=classes.yaml", "recipe=folder")
    assert fake_jobs.events() == []
    assert not (tmp_path / "store").exists()
    _, sweep = swept(table, "scale=smoke")
    check_class(sweep.table, metric="iou:bicycle")
    with pytest.raises(ConfigError, match=file + r", which scale=smoke makes 'iou:bus': .* has no class 'bus'; .*pole"):
        check_class(replace(sweep.table, metric="iou:bus"), metric="iou:bicycle")


def test_a_trial_of_a_search_that_hydra_cannot_compose_is_told_in_the_same_words(composed: Compose) -> None:
    with pytest.raises(ConfigCompositionException) as refused:  # a trial has no row
        prepare_all([["output_stride=x"]], lambda overrides: composed(*overrides))
    assert explain(refused.value, config_name="train") == "output_stride=x: must be a whole number"


def test_chosen_rows_of_a_sweep_are_one_of_their_own_beside_the_whole(
    sweep_of: Callable[..., list[JobReturn]], tmp_path: Path
) -> None:
    sweep_of("output_stride=8,16")
    sweep_of("output_stride=8,16", "rows=[16]")
    names = [path.stem for path in tmp_path.glob("store/sweeps/*.json")]
    rows = [[row.name for row in load_sweep(tmp_path / "store", name).table.rows] for name in names]
    assert sorted(rows) == [["16"], ["8", "16"]]


def test_a_refused_sweep_leaves_the_one_that_was_saved_before(
    sweep_of: Callable[..., list[JobReturn]], fake_jobs: FakeJobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep_of("output_stride=8,16")
    (saved,) = tmp_path.glob("store/sweeps/*")
    before = saved.read_bytes()

    def refuse(*_: object, **__: object) -> list[JobReturn]:
        raise ConfigCompositionException("another kind of refusal")

    monkeypatch.setattr(_Launcher, "launch", refuse)
    with pytest.raises(ConfigCompositionException):
        sweep_of("output_stride=8,16", "seed=0,1")
    assert saved.read_bytes() == before, "seeds are not in its name"


@pytest.mark.exhaustive
def test_a_launcher_that_is_not_ours_gets_only_what_is_missing_and_the_report_follows(
    swept: Swept, composed: Compose, tmp_path: Path, fake_jobs: FakeJobs
) -> None:
    fake_jobs.behave(os8="fail")
    launcher, store = _Launcher(composed, tmp_path / "store"), tmp_path / "store"
    for expected in (["os8", "os16"], ["os8"]):
        arguments = ["+experiment=deeplabv3/table1", "scale=smoke", "rows=[os8,os16]", "hydra/launcher=basic"]
        arguments.append(f"store={store}")
        config, _ = swept(*arguments)
        with pytest.raises(SweepError, match="1 of 2 runs have no result"):
            run_sweep(config, arguments, launcher)  # type: ignore[arg-type]
        assert [row for overrides in launcher.asked for row in overrides if row.startswith("row=")] == [
            f"row={name}" for name in expected
        ]
        assert [row["seeds"] for row in _table(store)] == ["0", "1"]


def test_a_sweep_for_several_machines_needs_a_launcher_that_has_them(
    sweep_of: Callable[..., list[JobReturn]], fake_jobs: FakeJobs
) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.nodes=2.*hydra/launcher=submitit_slurm"):
        sweep_of("output_stride=8,16", "trainer.nodes=2")
    assert fake_jobs.events() == []


def test_a_sweep_that_torchrun_starts_on_every_rank_is_refused(
    sweep_of: Callable[..., list[JobReturn]], fake_jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranks = {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}
    for name, value in {**ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="-m was started 2 times by torchrun"):
        sweep_of("output_stride=8,16")
    assert fake_jobs.events() == []


def test_a_cut_sweep_of_a_table_is_reported_as_the_table_in_full(
    sweep_of: Callable[..., list[JobReturn]], tmp_path: Path
) -> None:
    sweep_of("+experiment=deeplabv3/table1", "scale=smoke", "rows=[os8]", "recipe.max_steps=1")
    (row,) = _table(tmp_path / "store")
    assert row["measured_mean"] == ""
    assert "unfinished budget: seed 0 has 1 of 2 steps" in row["state"]


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("recipe.max_steps=1e3", "recipe.max_steps=1"),
        ("recipe.max_steps=0", "recipe.max_steps=1"),
        ("output_stride=x", "rows=[a]"),
    ],
)
def test_what_only_the_report_of_a_table_reads_is_refused_before_the_first_training(
    sweep_of: Callable[..., list[JobReturn]], fake_jobs: FakeJobs, tmp_path: Path, text: str, chosen: str
) -> None:
    (tmp_path / "experiment" / "p").mkdir(parents=True)
    (tmp_path / "experiment" / "p" / "t.yaml").write_text(
        "# @package experiment\ndefaults: [/experiment_schema@_here_, _self_]\ntable: p/t\npaper: P\ntitle: T\nrows:\n"
        "  - {name: a, overrides: [output_stride=8], columns: {row: a}, against: b}\n"
        f"  - {{name: b, overrides: [{text}], columns: {{row: b}}}}\n"
    )
    folder = f"hydra.searchpath=[file://{tmp_path}]"
    with pytest.raises((ConfigError, RowError), match=r"^row b: "):
        sweep_of("+experiment=p/t", folder, chosen)
    assert fake_jobs.events() == []


@pytest.mark.exhaustive
def test_a_changed_table_and_chosen_rows_leave_the_report_of_the_table_as_it_is(swept: Swept, tmp_path: Path) -> None:
    table = ("+experiment=deeplabv3/bootstrapping", "scale=smoke")
    folder = report_sweep(swept(*table)[1], store=tmp_path, output=None)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    others = [
        report_sweep(swept(*table, own)[1], store=tmp_path, output=None)
        for own in ("recipe.optimizer.lr=0.5", "rows=[every-image-once]")
    ]
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert len({folder, *others}) == 3
    assert {other.parent for other in others} == {folder.parent}


def test_a_saved_sweep_is_the_same_sweep(swept: Swept, tmp_path: Path) -> None:
    _, sweep = swept("output_stride=8,16", "model.dropout=0.1", "seed=1,2")
    save_sweep(sweep, tmp_path)
    assert load_sweep(tmp_path, sweep.table.name) == sweep


def test_an_unknown_sweep_is_refused_with_those_there_are(swept: Swept, tmp_path: Path) -> None:
    _, sweep = swept("output_stride=8,16")
    save_sweep(sweep, tmp_path)
    with pytest.raises(ConfigError, match=rf"sweep='nope'.*{sweep.table.name}"):
        load_sweep(tmp_path, "nope")


@pytest.mark.parametrize(
    "content",
    [b"", b'{"table": {', b"\xff\xfe", b"[]", b"{}", b'{"table": [], "seeds": [0]}', b'{"seeds": 3}', b"[" * 9999],
)
def test_a_damaged_saved_sweep_is_refused_by_name_with_what_mends_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "mine.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"mine\.json: not a sweep that was saved .*atrous-train -m, writes it anew"):
        load_sweep(tmp_path, "mine")


def test_a_damaged_saved_sweep_is_written_anew_by_its_own_command(
    sweep_of: Callable[..., list[JobReturn]], fake_jobs: FakeJobs, tmp_path: Path
) -> None:
    sweep_of("output_stride=8,16")
    (saved,) = tmp_path.glob("store/sweeps/*")
    before = saved.read_bytes()
    saved.write_bytes(b"\xff" + before[1:])
    sweep_of("output_stride=8,16")
    assert saved.read_bytes() == before


@pytest.mark.parametrize("table", ["deeplabv3/figure4", "deeplabv3plus/table4"])
def test_a_table_of_which_nothing_is_trained_is_reported(
    sweep_of: Callable[..., list[JobReturn]], tmp_path: Path, table: str
) -> None:
    assert sweep_of(f"+experiment={table}", "scale=smoke") == []
    report = tmp_path / "store" / "reports" / table / "smoke"
    assert (report / "index.html").is_file()
    assert (report / "figure4.png").is_file() == (table == "deeplabv3/figure4")
