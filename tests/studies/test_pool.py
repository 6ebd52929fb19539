"""Many trainings on one machine: who runs where, and what a failure does to the others."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from atrous.errors import ConfigError
from atrous.studies import jobs as studies_jobs
from atrous.studies import pool
from atrous.studies.pool import run_all, slots_for, visible_gpus

from .conftest import FakeJobs

pytestmark = pytest.mark.slow


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
    assert states == [(0, "skipped"), (1, "skipped")]


def test_two_rows_that_share_a_training_train_it_once(fake_jobs: FakeJobs) -> None:
    same = fake_jobs.job("a")
    outcomes = run_all([same, same], [{}, {}])
    assert sorted(outcome.state for outcome in outcomes) == ["done", "skipped"]


@pytest.mark.parametrize("seed", range(3))
def test_eight_jobs_share_four_gpus_whatever_becomes_of_them(fake_jobs: FakeJobs, seed: int) -> None:
    rows, chance = "abcdefgh", random.Random(seed)
    ends = {row: chance.choice(["done", "done", "fail", "kill", "vanish"]) for row in rows[4:]}
    fake_jobs.behave(a="kill", b="kill", c="kill", d="kill", **ends)
    slots = slots_for(gpus=["0", "1", "2", "3"], devices=1, threads=0, cores=2, wanted=None)
    outcomes = run_all([fake_jobs.job(row) for row in rows], slots)
    events = fake_jobs.events()
    assert [row for event, *_, row, _ in events if event == "clash"] == []
    assert sorted(row for event, *_, row, _ in events if event == "start") == list(rows)
    assert {gpu for event, *_, row, gpu in events if row in "abcd"} == {"0", "1", "2", "3"}, "every device is used"
    assert [outcome.state for outcome in outcomes[:4]] == ["failed"] * 4
    expected = ["done" if ends[row] == "done" else "failed" for row in rows[4:]]
    assert [outcome.state for outcome in outcomes[4:]] == expected, "devices are free after a crash"


def test_what_a_killed_job_leaves_is_ended_before_anything_else_runs_there(
    fake_jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studies_jobs, "GRACE_SECONDS", 0.5)
    fake_jobs.behave(a="orphan")
    job = fake_jobs.job("a")
    (outcome,) = run_all([job], [{}])
    assert outcome.state == "failed"
    assert not _is_alive(int((job.folder.path / "orphan").read_text()))


def test_a_run_that_cannot_be_written_does_not_stop_the_others(fake_jobs: FakeJobs) -> None:
    broken = fake_jobs.job("a")
    broken.folder.path.parent.mkdir(parents=True)
    broken.folder.path.touch()
    outcomes = run_all([broken, fake_jobs.job("b")], [{}])
    assert [outcome.state for outcome in outcomes] == ["failed", "done"]
    assert str(broken.folder.path) in str(outcomes[0].error)


def _sweep(folder: Path, behaviour: str, rows: str) -> "subprocess.Popen[str]":
    """A sweep in a process of its own, two jobs at a time, that prints that it is stopping, and how they ended."""
    folder.mkdir(exist_ok=True)
    script = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
import pytest
from tests.studies.conftest import FakeJobs
from atrous.studies.pool import run_all
fake = FakeJobs(Path({str(folder)!r}), pytest.MonkeyPatch())
fake.behave(**{{"*": {behaviour!r}}})
jobs, slots = [fake.job(row) for row in {rows!r}], [{{}}, {{}}]
outcomes = run_all(jobs, slots, on_stop=lambda: print("stopping", flush=True))
print(*[outcome.state for outcome in outcomes])
"""
    command = [sys.executable, "-c", script]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _wait_for_two_running(folder: Path) -> list[int]:
    _wait_for(lambda: sum('"running"' in path.read_text() for path in folder.glob("runs/*/*/status.json")) == 2)
    return _started(folder)


def _started(folder: Path) -> list[int]:
    return [int(line.split()[2]) for line in (folder / "events.log").read_text().splitlines()]


def test_ctrl_c_and_its_like_end_every_process_tree_and_keep_the_runs(tmp_path: Path) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    sweeps = {number: _sweep(tmp_path / number.name, "hang", "abc") for number in numbers}
    for number, process in sweeps.items():
        _wait_for_two_running(tmp_path / number.name)
        process.send_signal(number)
    for number, process in sweeps.items():
        _, err = process.communicate(timeout=30)
        assert process.returncode != 0
        assert "Interrupted" in err
        started = _started(tmp_path / number.name)
        assert len(started) == 2, f"a job was started after {number.name}"
        assert not any(map(_is_alive, started))
        states = [path.read_text() for path in (tmp_path / number.name).glob("runs/*/*/status.json")]
        assert len(states) == 2
        assert all('"stopped"' in text for text in states)


def test_a_second_ctrl_c_ends_at_once_what_will_not_end_and_leaves_nothing(tmp_path: Path) -> None:
    process = _sweep(tmp_path, "stubborn", "ab")
    started = _wait_for_two_running(tmp_path)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "stopping\n"
    time.sleep(1.0)
    assert process.poll() is None, "it waits until the jobs have saved"
    assert all(map(_is_alive, started))
    again = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert time.monotonic() - again < studies_jobs.GRACE_SECONDS / 2
    assert not any(map(_is_alive, started))
    assert all('"stopped"' in path.read_text() for path in tmp_path.glob("runs/*/*/status.json"))


def test_jobs_end_when_their_launcher_is_killed_and_leave_no_lock(tmp_path: Path, fake_jobs: FakeJobs) -> None:
    process = _sweep(tmp_path, "hang", "ab")
    started = _wait_for_two_running(tmp_path)
    process.kill()
    process.communicate()
    _wait_for(lambda: not any(map(_is_alive, started)))
    fake_jobs.behave()
    outcomes = run_all([fake_jobs.job(row) for row in "ab"], [{}])
    assert [outcome.state for outcome in outcomes] == ["done", "done"]


def test_two_sweeps_at_once_train_nothing_twice_and_both_see_every_result(tmp_path: Path) -> None:
    sweeps = [_sweep(tmp_path, "done", "abcd"), _sweep(tmp_path, "done", "dcba")]
    states = [sweep.communicate(timeout=60)[0].split() for sweep in sweeps]
    assert [sweep.returncode for sweep in sweeps] == [0, 0]
    assert len(_started(tmp_path)) == 8, "a start and an end of each of the four"
    assert sorted(states[0] + states[1]) == ["done"] * 4 + ["skipped"] * 4


def test_what_another_sweep_trains_is_put_off_and_taken_over_when_that_one_dies(
    tmp_path: Path, fake_jobs: FakeJobs
) -> None:
    other = _sweep(tmp_path, "hang", "ab")
    _wait_for_two_running(tmp_path)
    fake_jobs.behave()
    states: list[tuple[int, str]] = []

    def on_change(index: int, state: str) -> None:
        states.append((index, state))
        if (index, state) == (2, "done"):
            other.kill()

    outcomes = run_all([fake_jobs.job(row) for row in "abc"], [{}], on_change=on_change)
    other.communicate()
    assert [outcome.state for outcome in outcomes] == ["done"] * 3
    assert states[:4] == [(0, "elsewhere"), (1, "elsewhere"), (2, "running"), (2, "done")], "what is free comes first"
    assert sorted(states[4:]) == [(0, "done"), (0, "running"), (1, "done"), (1, "running")]


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


@pytest.mark.parametrize(
    ("value", "gpus"),
    [
        ("2,3", ["2", "3"]),
        ("", []),
        ("-1", []),
        ("GPU-ab", ["GPU-ab"]),
        ("MIG-ab/1/0, 3", ["MIG-ab/1/0", "3"]),
        ("0,-1,1", ["0"]),
        ("NoDevFiles", []),
    ],
)
def test_only_the_visible_gpus_are_shared_out(value: str, gpus: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert visible_gpus() == gpus


def test_an_nvidia_smi_that_hangs_is_told_with_what_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexec sleep 100\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(pool, "_NVIDIA_SMI_SECONDS", 0.1)
    with pytest.raises(ConfigError, match=r"nvidia-smi -L.*CUDA_VISIBLE_DEVICES=0,1"):
        visible_gpus()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z" if Path("/proc").is_dir() else True
    except (ProcessLookupError, FileNotFoundError):  # it may be gone between the two
        return False


def _wait_for(condition: "object", seconds: float = 60.0) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
