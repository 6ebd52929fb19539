"""Ranks that others started train one run: they meet, end alike, and take each other down."""

import json
import os
import re
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from atrous import run_process
from atrous.errors import AtrousError, StoreError
from atrous.files import write_json
from atrous.studies import jobs, meeting, together
from atrous.studies.jobs import Job, JobError
from atrous.studies.meeting import Meeting, MeetingError
from atrous.studies.meeting_files import MeetingFiles
from atrous.studies.ranks import Ranks

from .conftest import FakeJobs

pytestmark = pytest.mark.slow

FAKE_RANK = Path(__file__).parent / "fake_rank.py"
Behave = Callable[..., None]


def rank(number: int, *, world_size: int = 2) -> Ranks:
    return Ranks(number, 0, world_size, number, world_size, "127.0.0.1", 12345, "launch-1", "torchrun")


@pytest.fixture
def behave(fake_jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch) -> Behave:
    """How ranks end; see fake_rank.py."""
    monkeypatch.setattr(run_process, "PROGRAM", (str(FAKE_RANK),))
    monkeypatch.setattr(jobs, "GRACE_SECONDS", 1.0)
    monkeypatch.setattr(meeting, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(together, "_BLAME_SECONDS", 1.0)

    def set_behaviour(**by_rank: str) -> None:
        monkeypatch.setenv("FAKE_RANKS", json.dumps({name.removeprefix("rank"): how for name, how in by_rank.items()}))

    return set_behaviour


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks that give the others up after two seconds."""
    monkeypatch.setattr(meeting, "SILENCE_SECONDS", 2.0)
    monkeypatch.setattr(meeting, "ARRIVAL_SECONDS", 2.0)
    monkeypatch.setattr(meeting, "_SECONDS_TO_A_WORD", 0.2)


def together_in_threads(job: Job, numbers: Sequence[int], *, world_size: int = 2) -> list[Future[str]]:
    """What each rank's command would do, and how it ends."""
    with ThreadPoolExecutor(len(numbers)) as executor:
        return [
            executor.submit(together.run, job, rank(number, world_size=world_size), capture=True) for number in numbers
        ]


def errors(futures: Sequence[Future[str]]) -> list[str]:
    found = [future.exception() for future in futures]
    assert all(isinstance(error, AtrousError) for error in found), found
    return [str(error) for error in found]


def test_every_rank_runs_its_process_and_all_return_the_same(fake_jobs: FakeJobs, behave: Behave) -> None:
    job = fake_jobs.job("a")
    futures = together_in_threads(job, [2, 0, 1], world_size=3)
    assert [future.result() for future in futures] == ["done"] * 3
    seen = [(job.folder.path / f"rank{number}").read_text().split()[:2] for number in range(3)]
    assert seen == [["3", "12345"]] * 3
    assert job.todo == []
    assert sum(event == "start" for event, *_ in fake_jobs.events()) == 1
    left = sorted(path.name for path in (job.folder.path / "ranks").iterdir())
    assert left == ["1", "2"], "the launch leaves no files of its meeting, and each other rank its log"


def test_the_processes_of_each_start_meet_under_a_name_of_their_own(fake_jobs: FakeJobs, behave: Behave) -> None:
    job, names = fake_jobs.job("a"), []
    for behaviour in ("fail", "done"):
        behave(rank0=behaviour, rank1=behaviour)
        for future in together_in_threads(job, [0, 1]):
            assert (future.exception() is None) == (behaviour == "done")
        files = [job.folder.path / f"rank{number}" for number in range(2)]
        names.append({file.read_text().split()[3] for file in files})
        for file in files:
            file.unlink()
    assert [len(name) for name in names] == [1, 1]
    assert names[0] != names[1]


def test_a_run_that_is_done_is_skipped_by_all(fake_jobs: FakeJobs, behave: Behave) -> None:
    job = fake_jobs.job("a")
    assert [future.result() for future in together_in_threads(job, [0, 1])] == ["done"] * 2
    assert [future.result() for future in together_in_threads(job, [0, 1])] == ["skipped"] * 2
    assert sum(event == "start" for event, *_ in fake_jobs.events()) == 1


@pytest.mark.parametrize("late", [0, 1])
def test_a_rank_that_comes_when_nothing_is_left_to_do_learns_so(
    fake_jobs: FakeJobs, behave: Behave, late: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = fake_jobs.job("a")
    assert [future.result() for future in together_in_threads(job, [0, 1])] == ["done"] * 2
    monkeypatch.setattr(meeting, "ARRIVAL_SECONDS", 20.0)
    monkeypatch.setattr(meeting, "BEAT_SECONDS", 2.0)
    monkeypatch.setattr(meeting, "_POLL_SECONDS", 0.01)  # it is noticed long before the next sign of life
    with ThreadPoolExecutor(2) as executor:
        first = executor.submit(together.run, job, rank(1 - late), capture=True)
        time.sleep(0.7)
        second = executor.submit(together.run, job, rank(late), capture=True)
        assert [first.result(), second.result()] == ["skipped"] * 2
    assert not (job.folder.path / "ranks" / "launch-1").exists()


def test_a_rank_that_comes_when_others_have_left_learns_how_it_ended(
    fake_jobs: FakeJobs, behave: Behave, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = fake_jobs.job("a")
    assert [future.result() for future in together_in_threads(job, [0, 1, 2], world_size=3)] == ["done"] * 3
    monkeypatch.setattr(meeting, "ARRIVAL_SECONDS", 20.0)
    with ThreadPoolExecutor(3) as executor:
        first, second = (executor.submit(together.run, job, rank(k, world_size=3), capture=True) for k in (0, 1))
        assert second.result() == "skipped"
        time.sleep(0.5)
        late = executor.submit(together.run, job, rank(2, world_size=3), capture=True)
        assert [first.result(), late.result()] == ["skipped"] * 2


def test_a_rank_that_cannot_begin_says_why_to_all(
    fake_jobs: FakeJobs, behave: Behave, monkeypatch: pytest.MonkeyPatch
) -> None:
    behave(rank0="hang")

    def refuse(*_: object, **__: object) -> str:
        raise StoreError("the store has no locks here")

    monkeypatch.setattr(together, "_take_part", refuse)
    for said in errors(together_in_threads(fake_jobs.job("a"), [0, 1])):
        assert "the store has no locks here" in said


def test_an_error_of_the_first_rank_is_no_stop_of_the_others(
    fake_jobs: FakeJobs, behave: Behave, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> str:
        raise PermissionError("log.txt cannot be opened")

    monkeypatch.setattr(jobs, "run", fail)
    first, second = together_in_threads(fake_jobs.job("a"), [0, 1])
    assert isinstance(first.exception(), PermissionError)
    assert str(second.exception()) == "rank 0 failed: PermissionError: log.txt cannot be opened"


def test_a_parent_is_trained_first_by_the_same_ranks(fake_jobs: FakeJobs, behave: Behave) -> None:
    parent, plain = fake_jobs.job("parent"), fake_jobs.job("child")
    child = Job(plain.config, plain.identity, plain.folder, plain.overrides, parent)
    assert [future.result() for future in together_in_threads(child, [0, 1])] == ["done"] * 2
    assert [row for event, _, _, row, _ in fake_jobs.events() if event == "start"] == ["parent", "child"]
    assert (parent.folder.path / "rank1").is_file()
    assert (child.folder.path / "rank1").is_file()


@pytest.mark.parametrize(("killed", "other"), [("rank1", "rank0"), ("rank0", "rank1")])
def test_a_killed_process_ends_those_of_the_other_ranks(
    fake_jobs: FakeJobs, behave: Behave, killed: str, other: str
) -> None:
    behave(**{killed: "kill", other: "hang"})
    job, start = fake_jobs.job("a"), time.monotonic()
    said = errors(together_in_threads(job, [0, 1]))
    assert time.monotonic() - start < 20
    assert said[0] == said[1], "every rank says the same"
    assert "killed by" in said[0]
    assert job.folder.status()["state"] == "failed"
    process = int((job.folder.path / other).read_text().split()[2])
    assert not Path(f"/proc/{process}").exists()


def test_the_reason_of_a_failed_run_reaches_every_rank(fake_jobs: FakeJobs, behave: Behave) -> None:
    behave(rank0="fail", rank1="fail")
    said = errors(together_in_threads(fake_jobs.job("a"), [0, 1]))
    assert said[0] == said[1]
    assert "the loss is nan at step 1" in said[0]


def test_a_failed_run_can_be_run_again_under_the_same_token(fake_jobs: FakeJobs, behave: Behave) -> None:
    behave(rank1="kill", rank0="hang")
    job = fake_jobs.job("a")
    errors(together_in_threads(job, [0, 1]))
    behave()
    assert [future.result() for future in together_in_threads(job, [0, 1])] == ["done"] * 2


def test_files_of_a_launch_that_was_killed_are_no_sign_of_life(
    fake_jobs: FakeJobs, behave: Behave, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = fake_jobs.job("a")
    old = job.folder.path / "ranks" / "launch-1"
    for number in range(2):
        write_json(old / f"{number}.json", {"sign": 1, "host": "gone", "process": 1, "problem": ""})
    write_json(old / "ticket-0.json", {"outcome": "skipped"})
    monkeypatch.setattr(meeting, "ARRIVAL_SECONDS", 1.0)
    (said,) = errors(together_in_threads(job, [1]))
    assert "rank 0 of 2 has not come" in said
    monkeypatch.setattr(meeting, "ARRIVAL_SECONDS", 60.0)
    assert [future.result() for future in together_in_threads(job, [0, 1])] == ["done"] * 2


@pytest.mark.usefixtures("impatient")
def test_a_rank_that_never_comes_is_named_and_the_first_ends(fake_jobs: FakeJobs, behave: Behave) -> None:
    behave(rank0="hang")
    job = fake_jobs.job("a")
    (said,) = errors(together_in_threads(job, [0]))
    assert "rank 1 of 2 has not come" in said
    assert job.folder.status()["state"] == "failed"


def test_ranks_that_are_missing_are_told_and_each_looked_at_once_however_many_they_are(
    fake_jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    read, looked = MeetingFiles.read_sign, []

    def look(files: MeetingFiles, rank: int) -> object:
        looked.append(rank)
        return read(files, rank)

    folder = fake_jobs.job("a").folder.path
    monkeypatch.setattr(meeting, "_SECONDS_TO_A_WORD", 0.0)
    among = Meeting(folder, rank(0, world_size=40))
    monkeypatch.setattr(MeetingFiles, "read_sign", look)
    assert among.problem() == ""
    assert looked == list(range(1, 40))
    all_but_the_first, place = ", ".join(map(str, looked)), re.escape(str(folder / "ranks" / "launch-1"))
    told = rf"waiting \d+ s more for rank {all_but_the_first} of 40: no sign of life in {place} yet\n"
    assert re.fullmatch(told, capfd.readouterr().err)


@pytest.mark.usefixtures("impatient")
def test_a_rank_whose_command_was_killed_is_missed(
    fake_jobs: FakeJobs, behave: Behave, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = fake_jobs.job("a")
    with Meeting(job.folder.path, rank(1)) as second, ThreadPoolExecutor(1) as executor:
        behave(rank0="hang")
        first = executor.submit(together.run, job, rank(0), capture=True)
        assert second.next_ticket()["start"] == 0
        second._give_sign()  # one that the first rank has not found when it came
        monkeypatch.setattr(second, "_give_sign", lambda: None)
        with pytest.raises(JobError, match=r"rank 1 on .* silent for 2 s"):
            first.result(timeout=20)


@pytest.mark.usefixtures("impatient")
def test_ranks_that_lose_the_first_one_say_so(fake_jobs: FakeJobs, behave: Behave) -> None:
    job = fake_jobs.job("a")
    with Meeting(job.folder.path, rank(0)) as first, ThreadPoolExecutor(1) as executor:
        behave(rank1="hang")
        second = executor.submit(together.run, job, rank(1), capture=True)
        first.issue(start=0, meeting="m")
        while not (job.folder.path / "rank1").is_file() and not second.done():
            time.sleep(0.05)
        first._left.set()
        with pytest.raises(MeetingError, match=r"rank 0 on .* silent for 2 s"):
            second.result(timeout=20)


def test_an_interrupted_first_rank_lets_the_others_go(fake_jobs: FakeJobs, behave: Behave) -> None:
    behave(rank0="hang", rank1="hang")
    job = fake_jobs.job("a")
    with ThreadPoolExecutor(1) as executor:
        second = executor.submit(together.run, job, rank(1), capture=True)

        def interrupt_when_it_runs() -> None:
            while job.folder.status()["state"] != "running" and not (job.folder.path / "rank1").is_file():
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGINT)

        interrupter = ThreadPoolExecutor(1).submit(interrupt_when_it_runs)
        with pytest.raises(KeyboardInterrupt):
            together.run(job, rank(0), capture=True)
        interrupter.result()
        assert second.result(timeout=20) == "stopped"
    assert job.folder.status()["state"] == "stopped"
