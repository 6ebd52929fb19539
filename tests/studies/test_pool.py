"""Many trainings on one machine: who runs where, and what a failure does to the others."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from atrous.errors import ConfigError
from atrous.studies.pool import run_all, slots_for, visible_gpus

from .conftest import FakeJobs


def test_a_gpu_is_never_used_by_two_jobs_at_a_time(fake_jobs: FakeJobs) -> None:
    slots = slots_for(gpus=["0", "1", "2", "3"], devices=2, threads=0, cores=2, wanted=None)
    run_all([fake_jobs.job(f"r{i}") for i in range(6)], slots)
    by_slot: dict[str, list[str]] = {}
    for event, _, _, row, gpus in fake_jobs.events():
        by_slot.setdefault(gpus, []).append(f"{event} {row}")
    assert set(by_slot) == {"0,1", "2,3"}
    for history in by_slot.values():
        rows = [entry.split()[1] for entry in history]
        assert [entry.split()[0] for entry in history] == ["start", "end"] * (len(history) // 2)
        assert rows[::2] == rows[1::2]


def test_one_failure_does_not_stop_the_others(fake_jobs: FakeJobs) -> None:
    fake_jobs.behave(b="fail", c="kill")
    outcomes = run_all([fake_jobs.job(row) for row in "abcd"], [{}, {}])
    assert [outcome.state for outcome in outcomes] == ["done", "failed", "failed", "done"]
    assert "the loss is nan" in str(outcomes[1].error)
    assert "SIGKILL" in str(outcomes[2].error)


def test_fail_fast_cancels_what_waits(fake_jobs: FakeJobs) -> None:
    fake_jobs.behave(a="fail")
    outcomes = run_all([fake_jobs.job(row) for row in "abc"], [{}], fail_fast=True)
    assert [outcome.state for outcome in outcomes] == ["failed", "cancelled", "cancelled"]
    assert {row for _, _, _, row, _ in fake_jobs.events()} == {"a"}


def test_fail_fast_ends_what_runs(fake_jobs: FakeJobs) -> None:
    fake_jobs.behave(a="hang", b="fail")
    jobs = [fake_jobs.job("a"), fake_jobs.job("b")]
    outcomes = run_all(jobs, [{}, {}], fail_fast=True)
    assert [outcome.state for outcome in outcomes] == ["stopped", "failed"]
    assert jobs[0].folder.status()["state"] == "stopped"
    assert not any(_is_alive(process) for _, _, process, _, _ in fake_jobs.events())


def test_what_is_done_is_skipped(fake_jobs: FakeJobs) -> None:
    jobs = [fake_jobs.job(row) for row in "ab"]
    run_all(jobs, [{}])
    events = fake_jobs.events()
    states: list[tuple[int, str]] = []
    outcomes = run_all(jobs, [{}], on_change=lambda index, state: states.append((index, state)))
    assert [outcome.state for outcome in outcomes] == ["skipped", "skipped"]
    assert fake_jobs.events() == events
    assert states == [(0, "running"), (0, "skipped"), (1, "running"), (1, "skipped")]


def test_two_rows_that_share_a_training_train_it_once(fake_jobs: FakeJobs) -> None:
    same = fake_jobs.job("a")
    outcomes = run_all([same, same], [{}, {}])
    assert sorted(outcome.state for outcome in outcomes) == ["done", "skipped"]


def test_ctrl_c_ends_every_process_tree_and_keeps_the_runs(tmp_path: Path) -> None:
    script = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
import pytest
from tests.studies.conftest import FakeJobs
from atrous.studies.pool import run_all
fake = FakeJobs(Path({str(tmp_path)!r}), pytest.MonkeyPatch())
fake.behave(**{{"*": "hang"}})
run_all([fake.job(row) for row in "abc"], [{{}}, {{}}])
"""
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    log = tmp_path / "events.log"
    _wait_for(lambda: log.exists() and len(log.read_text().splitlines()) == 2)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in err
    events = [line.split() for line in log.read_text().splitlines()]
    assert len(events) == 2, "a job was started after Ctrl-C"
    assert not any(_is_alive(int(event[2])) for event in events)
    states = [path.read_text() for path in tmp_path.glob("runs/*/*/status.json")]
    assert len(states) == 2
    assert all('"stopped"' in text for text in states)


def test_slots_share_out_gpus_without_overlap() -> None:
    slots = slots_for(gpus=[str(i) for i in range(8)], devices=3, threads=4, cores=64, wanted=None)
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in slots] == ["0,1,2", "3,4,5"]
    assert len(slots_for(gpus=["0", "1"], devices=1, threads=4, cores=64, wanted=1)) == 1


def test_slots_on_the_cpu_follow_threads_and_cores() -> None:
    assert len(slots_for(gpus=[], devices=1, threads=2, cores=8, wanted=None)) == 4
    assert len(slots_for(gpus=[], devices=2, threads=2, cores=8, wanted=None)) == 2
    assert len(slots_for(gpus=[], devices=1, threads=0, cores=8, wanted=None)) == 1
    assert len(slots_for(gpus=[], devices=1, threads=16, cores=8, wanted=None)) == 1
    assert len(slots_for(gpus=[], devices=1, threads=1, cores=2, wanted=5)) == 5


def test_impossible_slots_are_refused_with_the_key() -> None:
    with pytest.raises(ConfigError, match=r"trainer\.devices=4.*2 GPUs"):
        slots_for(gpus=["0", "1"], devices=4, threads=0, cores=8, wanted=None)
    with pytest.raises(ConfigError, match=r"hydra\.launcher\.jobs=0"):
        slots_for(gpus=[], devices=1, threads=0, cores=8, wanted=0)


@pytest.mark.parametrize(("value", "gpus"), [("2,3", ["2", "3"]), ("", []), ("-1", []), ("GPU-ab", ["GPU-ab"])])
def test_only_the_visible_gpus_are_shared_out(value: str, gpus: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert visible_gpus() == gpus


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z" if Path("/proc").is_dir() else True


def _wait_for(condition: "object", seconds: float = 20.0) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
