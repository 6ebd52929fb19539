"""One training by ranks that somebody else started: the first one decides, the others follow, and all end alike.

Every rank has started the same command and prepared the same job. The first holds the run's lock, writes its folder
and knows what is missing; it tells the others by tickets. Each rank then starts its own training process. When one of
them fails or goes silent, the first rank ends its own, says so, and the others end theirs.
"""

import os
import secrets
import time
from collections.abc import Mapping
from typing import Any

from atrous import full_memory, processes, run_process
from atrous.errors import AtrousError
from atrous.run_store import RunFolder
from atrous.studies import jobs
from atrous.studies.job_process import JobProcess, process_environment
from atrous.studies.jobs import Job, JobError
from atrous.studies.meeting import Meeting
from atrous.studies.ranks import Ranks

_BLAME_SECONDS = 3.0


def run(job: Job, ranks: Ranks, *, capture: bool = False) -> str:
    """Train and measure what is missing together with the other ranks; wait for the end of all.

    Args:
        job: what to run, the same on every rank.
        ranks: who this process is.
        capture: print into log.txt (the first rank into the run's, another into `<run>/ranks/<rank>`).

    Returns:
        As `jobs.run`, the same on every rank.

    Raises:
        AtrousError: with the reason, on every rank.
    """
    with Meeting(job.folder.path, ranks) as meeting:
        return (_lead if ranks.rank == 0 else _follow)(job, ranks, meeting, capture=capture)


def _lead(job: Job, ranks: Ranks, meeting: Meeting, *, capture: bool) -> str:
    outcome = "skipped"
    line = _line(job)
    try:
        for generation in reversed(range(len(line))):
            part = line[generation]
            if part is not job and (part.folder.is_done or not job.todo):
                continue
            ticket = {"start": generation, "meeting": secrets.token_hex(4)}
            outcome = jobs.run(
                part,
                environment=_environment(ranks, ticket),
                capture=capture,
                cancelled=lambda: bool(meeting.problem()),
                on_start=lambda ticket=ticket: meeting.issue(**ticket),  # type: ignore[misc]
                restarts=0,  # of one rank alone would not do: who started all of them starts all of them again
            )
            if problem := meeting.problem():
                raise _failure(part, problem)
            if outcome == "stopped":
                break
    except AtrousError as error:
        error = _blamed(part, error, meeting)
        meeting.issue(error=str(error))
        raise error from None
    meeting.issue(outcome=outcome)
    return outcome


def _follow(job: Job, ranks: Ranks, meeting: Meeting, *, capture: bool) -> str:
    line = _line(job)
    while "start" in (ticket := meeting.next_ticket()):
        part = line[ticket["start"]]
        try:
            problem = _take_part(part, _environment(ranks, ticket), ranks.rank, meeting, capture=capture)
        except (AtrousError, OSError) as error:
            problem = str(error)
        if problem is not None and meeting.peek() is None:
            meeting.report(problem)
    if "error" in ticket:
        raise JobError(ticket["error"])
    return str(ticket["outcome"])


def _environment(ranks: Ranks, ticket: Mapping[str, Any]) -> dict[str, str]:
    """The variables of a rank's process, with the name under which the ranks of this start meet, and no others."""
    return {**ranks.environment(), processes.MEETING: ticket["meeting"]}


def _take_part(part: Job, environment: Mapping[str, str], rank: int, meeting: Meeting, *, capture: bool) -> str | None:
    """Run this rank's process, and say what went wrong with it.

    The lock, the mark and the log of its tree are its own, beside the first rank's.
    """
    place = RunFolder(part.folder.path / "ranks" / str(rank))

    def is_over() -> bool:
        ticket = meeting.peek()
        return bool(meeting.problem()) or (ticket is not None and "start" not in ticket)

    with processes.Interrupts() as interrupts, place.lock(wait=lambda: not is_over()) as lock:
        if lock is None:
            return _reason(part, 1)
        process = JobProcess(place, lambda: part.grace_seconds, interrupts.hurried)
        command = [*run_process.PROGRAM, str(part.folder.path), *part.todo]
        variables = process_environment({**os.environ, **environment}, part.config["trainer"])
        code = process.run(command, variables, lock=lock, capture=capture, cancelled=is_over)
        if process.ran_out_of_memory:
            return f"killed by SIGKILL: {full_memory.advice_after_kill(part.folder)}"
        return _reason(part, code) if code != 0 else None


def _line(job: Job) -> list[Job]:
    """A job, the one whose weights it starts from, and so on."""
    return [job, *(_line(job.parent) if job.parent is not None else ())]


def _reason(part: Job, code: int) -> str:
    if code < 0:
        return f"killed by signal {-code}"
    status = part.folder.status()
    return str(status["reason"]) if status["state"] == "failed" else f"exit code {code}"


def _failure(part: Job, problem: str) -> JobError:
    return JobError(f"{problem}\n  folder: {part.folder.path}")


def _blamed(part: Job, error: AtrousError, meeting: Meeting) -> AtrousError:
    """The error together with what another rank has to say: one that is killed takes the others with it."""
    end = time.monotonic() + _BLAME_SECONDS
    while not (problem := meeting.problem()) and time.monotonic() < end:
        time.sleep(0.1)
    if not problem:
        return error
    first = str(error).splitlines()[0]
    reason = first if problem in first else f"{first}; {problem}"
    if part.folder.status()["state"] not in ("done", "missing"):
        part.folder.set_status("failed", reason=reason, exit_code=1)
    return _failure(part, reason)
