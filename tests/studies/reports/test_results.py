"""What a store holds of a table: only finished trainings with the full budget count."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import DictConfig

from atrous.errors import ConfigError, RowError
from atrous.studies import jobs
from atrous.studies.reports.charts import trend_chart
from atrous.studies.reports.forms import render_csv, render_markdown
from atrous.studies.reports.results import collect
from atrous.studies.reports.rows import RowResult, SeedResult, TableResult
from atrous.studies.reports.store import Store, read_store
from atrous.studies.reports.words import code_of
from atrous.studies.table import Row, Sweep

from ..conftest import FakeJobs

pytestmark = [pytest.mark.slow, pytest.mark.no_cover]  # counted in other tests, in half the time

Swept = Callable[..., tuple[DictConfig, Sweep]]
Compose = Callable[..., DictConfig]
TABLE = ("+experiment=deeplabv3/table1", "scale=smoke", "rows=[os8]")


@pytest.fixture
def store(tmp_path: Path, fake_jobs: FakeJobs) -> Path:
    """An empty store; jobs are fake."""
    return tmp_path / "store"


def _run(composed: Compose, sweep: Sweep, store: Path) -> None:
    for _, overrides in sweep.jobs():
        job = jobs.prepare(composed(*overrides, f"store={store}"), overrides)
        try:
            jobs.run(job, capture=True)
        except jobs.JobError:
            continue


def _row(result: TableResult, name: str) -> RowResult:
    return next(row for row in result.rows if row.row.name == name)


def test_scores_are_percent_with_mean_and_sample_deviation(swept: Swept, composed: Compose, store: Path) -> None:
    _, sweep = swept(*TABLE, "seed=1,2,3")
    _run(composed, sweep, store)
    row = _row(collect(sweep, store=store), "os8")
    assert row.scores == pytest.approx([1.8, 2.8, 3.8])
    assert row.mean == pytest.approx(2.8)
    assert row.spread == pytest.approx(1.0)
    assert row.difference == pytest.approx(2.8 - 75.18)
    assert (row.parameters, row.multiply_adds, row.size, row.seconds) == (2_000_000, 3_000_000_000, (129, 129), 61.0)
    assert row.state == "done"


def test_one_seed_has_no_deviation(swept: Swept, composed: Compose, store: Path) -> None:
    _, sweep = swept(*TABLE)
    _run(composed, sweep, store)
    assert _row(collect(sweep, store=store), "os8").spread is None


@pytest.mark.exhaustive
def test_seeds_of_earlier_sweeps_count(swept: Swept, composed: Compose, store: Path) -> None:
    for seed in (1, 2):
        _run(composed, swept(*TABLE, f"seed={seed}")[1], store)
    assert [seed.seed for seed in _row(collect(swept(*TABLE)[1], store=store), "os8").seeds] == [1, 2]


def test_a_table_names_the_code_that_trained_it_and_rows_of_other_code(
    swept: Swept, composed: Compose, store: Path
) -> None:
    _, sweep = swept(*TABLE[:2], "rows=[os8,os32]")
    _run(composed, sweep, store)
    assert code_of(collect(sweep, store=store)) == ""  # of before it was written down
    for number, file in enumerate(sorted(store.glob("runs/*/seed0/results.json"))):
        results = json.loads(file.read_text())
        file.write_text(json.dumps({**results, "training": {**results["training"], "atrous": "0.1.0 at abc"}}))
        if not number:
            unknown = code_of(collect(sweep, store=store))
            assert "a version that was not noted: os" in unknown
    one = collect(sweep, store=store)
    assert code_of(one) == "Trained by atrous 0.1.0 at abc."
    assert code_of(one) in render_markdown(one)
    assert ",0.1.0 at abc," in render_csv(one)
    file.write_text(file.read_text().replace("at abc", "at def"))
    text = code_of(collect(sweep, store=store))
    assert text.startswith("Trained by different versions of atrous: 0.1.0 at abc: os")
    assert "; 0.1.0 at def: os" in text


FIGURE = ("+experiment=deeplabv3plus/figure5", "scale=smoke", "boundary=false")


def _by_miou(sweep: Sweep) -> Sweep:
    """Compared by the only metric that fake jobs have."""
    return replace(sweep, table=replace(sweep.table, metric="miou"))


def test_a_finished_row_says_why_it_has_no_gain_also_where_other_seeds_are_missing() -> None:
    seed = SeedResult(0, "done", Path("x"), 2, 2, 0.5)
    row = RowResult(Row("two", (), {}, against="one"), "x", seeds=(seed,), missing=(1,))
    assert row.state == "seed 1 not trained; no gain without a result of one"
    assert replace(row, seeds=(replace(seed, state="running", score=None),)).state.endswith("seed 1 not trained")


@pytest.mark.exhaustive
def test_a_gain_needs_the_row_that_it_is_over_also_where_that_is_not_shown(
    swept: Swept, composed: Compose, store: Path
) -> None:
    sweep = _by_miou(swept(*FIGURE, "rows=[resnet101-decoder]")[1])
    _run(composed, sweep, store)
    (row,) = collect(sweep, store=store).rows
    assert (row.scores, row.mean, row.is_open) == ([], None, True)
    assert row.state == "no gain without a result of resnet101-bilinear"
    _run(composed, swept(*FIGURE, "rows=[resnet101-bilinear]", "seed=1")[1], store)
    assert collect(sweep, store=store).rows[0].state == "no finished seed in common with resnet101-bilinear"
    _run(composed, swept(*FIGURE, "rows=[resnet101-bilinear]")[1], store)
    (row,) = collect(sweep, store=store).rows
    assert row.scores == pytest.approx([0.0])
    assert row.state == "done"


def test_agreement_is_kendalls_tau_of_paper_and_measurement(swept: Swept, composed: Compose, store: Path) -> None:
    _, sweep = swept(*TABLE[:2], "rows=[os8,os32]")
    assert collect(sweep, store=store).agreement is None
    _run(composed, sweep, store)  # the fake score grows with the output stride, the paper's falls
    assert collect(sweep, store=store).agreement == pytest.approx(-1.0)


def test_trainings_of_another_budget_are_told_and_never_a_result(swept: Swept, composed: Compose, store: Path) -> None:
    cut, longer = "unfinished budget: seed 0 has 1 of 2 steps", "longer budget: seed 0 has 3 steps, the row 2"
    states = {}
    for steps in (1, 3, 2):
        _run(composed, swept(*TABLE, f"recipe.max_steps={steps}")[1], store)
        row = _row(collect(swept(*TABLE)[1], store=store), "os8")
        states[steps] = {*row.state.split("; ")}
        assert (row.mean is None) == (steps != 2)
    assert states == {1: {"not trained", cut}, 3: {"not trained", cut, longer}, 2: {"done"}}


def test_a_cut_training_is_told_of_a_seed_that_has_no_full_result(
    swept: Swept, composed: Compose, store: Path, fake_jobs: FakeJobs
) -> None:
    _run(composed, swept(*TABLE, "recipe.max_steps=1", "seed=0,1,2")[1], store)
    _run(composed, swept(*TABLE, "seed=0")[1], store)
    fake_jobs.behave(os8="fail")
    _run(composed, swept(*TABLE, "seed=1")[1], store)
    row = _row(collect(swept(*TABLE)[1], store=store), "os8")
    failed, *cut = row.state.split("; ")
    assert failed.startswith("seed 1 failed")
    assert cut == [f"unfinished budget: seed {seed} has 1 of 2 steps" for seed in (1, 2)]


COCO = ("+experiment=deeplabv3/table6", "scale=smoke", "rows=[ms-flip-os8-coco]")
PARENT = "'data=shapes_more','recipe=shapes','recipe.optimizer.lr=0.1','recipe.pretrained=null'"


def test_a_cut_training_is_told_also_where_the_one_that_it_starts_from_was_cut(
    swept: Swept, composed: Compose, store: Path
) -> None:
    _run(composed, swept(*COCO, "recipe.max_steps=1")[1], store)
    (row,) = collect(swept(*COCO)[1], store=store).rows
    assert row.state == "not trained; unfinished budget: seed 0 has 1 of 2 steps"


def test_a_cut_training_is_found_by_the_family_that_was_noted_before(
    swept: Swept, composed: Compose, store: Path
) -> None:
    _run(composed, swept(*COCO, "recipe.max_steps=1", f"parent=[{PARENT},'recipe.max_steps=2']")[1], store)
    ((_, overrides),) = swept(*COCO)[1].jobs()
    full = jobs.prepare(composed(*overrides, f"store={store}"), overrides).identity
    (cut,) = (file for file in store.glob("runs/*/seed0/run.json") if json.loads(file.read_text())["row"])
    assert full.former_family != full.family
    for family in (full.family, full.former_family):
        cut.write_text(json.dumps({**json.loads(cut.read_text()), "family": family}))
        (row,) = collect(swept(*COCO)[1], store=store).rows
        assert row.state == "not trained; unfinished budget: seed 0 has 1 of 2 steps"


def test_a_training_that_starts_from_one_of_another_budget_is_told_as_that(
    swept: Swept, composed: Compose, store: Path
) -> None:
    _run(composed, swept(*COCO, f"parent=[{PARENT},'recipe.max_steps=1']")[1], store)
    (row,) = collect(swept(*COCO)[1], store=store).rows
    assert row.mean is None
    told = "another budget before it: seed 0 starts from a training with other steps than the row's"
    assert row.state == f"not trained; {told}"


def test_a_training_of_another_table_or_recipe_is_not_a_cut_one(swept: Swept, composed: Compose, store: Path) -> None:
    _run(composed, swept(*TABLE, "recipe.max_steps=1", "recipe.optimizer.lr=0.5")[1], store)
    assert _row(collect(swept(*TABLE)[1], store=store), "os8").state == "not trained"


def test_seeds_that_were_asked_for_and_have_no_run_are_told_of_rows_that_have_others(
    swept: Swept, composed: Compose, store: Path
) -> None:
    _run(composed, swept(*TABLE, "seed=1,3")[1], store)
    (hurt,) = store.glob("runs/*/seed3")
    (hurt / "results.json").write_text("{")

    def state(*seeds: str) -> str:
        return _row(collect(swept(*TABLE, *seeds)[1], store=store), "os8").state

    assert state("seed=2,0,1") == "seeds 0, 2 not trained"
    assert state("seed=2") == "seed 2 not trained"
    assert state("seed=1,3") == "done", "a damaged run is told as that"
    assert state() == "done", "nobody asked for seed 0"
    _run(composed, swept(*TABLE, "seed=2", "recipe.max_steps=1")[1], store)
    assert state("seed=1,2") == "seed 2 not trained; unfinished budget: seed 2 has 1 of 2 steps"
    (result,) = collect(swept(*TABLE[:2], "rows=[os32]", "seed=1,2")[1], store=store).rows
    assert result.state == "not trained"


def test_a_row_that_cannot_be_composed_is_named_with_its_table(swept: Swept, store: Path) -> None:
    _, sweep = swept(*TABLE)
    for override, error in (
        ("output_strid=8", RowError),
        ("hydra/launcher=3", RowError),
        ("+model.x=${y}", ConfigError),
    ):
        row = replace(sweep.table.rows[0], overrides=(*sweep.table.rows[0].overrides, override))
        odd = replace(sweep, table=replace(sweep.table, rows=(row,)))
        with pytest.raises(error, match=r"^row os8 of deeplabv3/table1: "):
            collect(odd, store=store)


def test_a_failed_seed_is_told_and_the_others_count(
    swept: Swept, composed: Compose, store: Path, fake_jobs: FakeJobs
) -> None:
    _run(composed, swept(*TABLE, "seed=1")[1], store)
    fake_jobs.behave(os8="fail")
    _run(composed, swept(*TABLE, "seed=2")[1], store)
    row = _row(collect(swept(*TABLE)[1], store=store), "os8")
    assert len(row.scores) == 1
    assert row.state == "seed 2 failed at step 1 of 2: the loss is nan at step 1"


def test_a_training_without_the_rows_protocol_is_not_a_result(swept: Swept, composed: Compose, store: Path) -> None:
    _, sweep = swept(*TABLE)
    _, overrides = sweep.jobs()[0]
    jobs.run(jobs.prepare(composed(*overrides, "protocols=[ms_os8]", f"store={store}"), overrides), capture=True)
    row = _row(collect(sweep, store=store), "os8")
    assert row.mean is None
    assert row.state == "seed 0 not evaluated under single"


def test_a_score_over_no_labelled_pixel_is_not_a_result(swept: Swept, composed: Compose, store: Path) -> None:
    _, sweep = swept(*TABLE)
    _run(composed, sweep, store)
    (file,) = store.glob("runs/*/seed0/results.json")
    content = json.loads(file.read_text())
    content["evaluations"]["single"]["miou"] = float("nan")
    file.write_text(json.dumps(content))
    result = collect(sweep, store=store)
    assert _row(result, "os8").state == "seed 0 without mIoU under single"
    assert "<svg" in trend_chart(result)


def test_rows_of_a_table_at_the_papers_scale_need_no_data_to_be_reported(swept: Swept, store: Path) -> None:
    result = collect(swept("+experiment=deeplabv3/table1")[1], store=store)
    assert [row.state for row in result.rows] == ["not trained"] * 6
    assert "data=voc" in _row(result, "os8").command


def test_a_damaged_run_is_left_out_and_named(swept: Swept, composed: Compose, store: Path) -> None:
    _run(composed, swept(*TABLE, "seed=1,2")[1], store)
    (hurt,) = store.glob("runs/*/seed2")
    (hurt / "results.json").write_text("{")
    result = collect(swept(*TABLE)[1], store=store)
    assert len(_row(result, "os8").scores) == 1
    (damaged,) = result.damaged
    assert damaged.path == hurt
    assert str(hurt / "results.json") in damaged.reason


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("run.json", '{"name": 3}', "name=3"),
        ("run.json", None, "run.json: missing"),
        ("status.json", '{"state": 3}', "state=3"),
        ("results.json", '{"evaluations": {"single": {"miou": "high"}}}', "evaluations.single has no mIoU"),
        ("results.json", '{"evaluations": []}', "evaluations is no section"),
        ("config.yaml", "a: [", "config.yaml: not readable as YAML"),
        ("config.yaml", None, "config.yaml: missing"),
    ],
)
def test_what_is_damaged_is_told(tmp_path: Path, name: str, content: str | None, told: str) -> None:
    folder = tmp_path / "runs" / "x" / "seed0"
    folder.mkdir(parents=True)
    facts = {"name": "x", "family": "f", "seed": 0, "max_steps": 2, "command": "atrous-train"}
    files = {"run.json": json.dumps(facts), "status.json": '{"state": "done"}', "config.yaml": "seed: 0"}
    for key, text in {**files, name: content}.items():
        if text is not None:
            (folder / key).write_text(text)
    store = read_store(tmp_path)
    assert store.runs == ()
    assert told in store.damaged[0].reason


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_folder_that_others_keep_for_themselves_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "x" / "seed0"
    folder.mkdir(parents=True)
    folder.chmod(0)
    try:
        (damaged,) = read_store(tmp_path).damaged
    finally:
        folder.chmod(0o700)
    assert "Permission denied" in damaged.reason


def test_a_folder_in_which_nothing_was_started_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "runs" / "x" / "seed0").mkdir(parents=True)
    (tmp_path / "runs" / "x" / "seed0" / "lock").touch()
    assert read_store(tmp_path) == Store(tmp_path, ())
