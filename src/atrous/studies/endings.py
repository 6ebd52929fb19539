"""How the process of a run ended, as its folder says it where the process itself could not."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from atrous import full_memory
from atrous.exit_codes import is_of_the_machine, killed_by
from atrous.run_files import gone
from atrous.run_process import end_in_words
from atrous.run_store import RunFolder


@contextmanager
def staying_done(folder: RunFolder) -> Iterator[None]:
    """Have a run that is done stay so where a further protocol cannot be measured: what it has is not lost.

    Why it could not is `last_failure` in status.json.
    """
    was_done = folder.is_done
    try:
        yield
    finally:
        if was_done and not folder.is_done:
            with folder.noting("done before, and still"):
                reason = folder.status().get("reason", "")
                folder.set_status("done", **({"last_failure": reason} if reason else {}))


def note_stop(folder: RunFolder) -> str:
    """Say that the job was ended on request, where it could not, or took the request for a failure.

    Returns:
        What was lost, in words, where that was so; else nothing.
    """
    reason, lost = end_in_words(folder, "on request")
    with folder.noting(f"stopped: {reason}"):
        status = folder.status()
        if status["state"] in ("queued", "running", "failed"):
            what = f" ({status['reason']})" if "reason" in status else ""
            folder.set_status("stopped", reason=f"{reason}{what}")
            return f"{reason}: {lost}"
    return ""


def note_full_memory(folder: RunFolder) -> None:
    """Say that the job was killed while memory was full, unless it had ended before, and what to lower."""
    reason = f"killed by SIGKILL: {full_memory.advice_after_kill(folder)}"
    with folder.noting(f"failed: {reason}"):
        if folder.status()["state"] in ("queued", "running"):
            folder.set_status("failed", reason=reason, exit_code=-signal.SIGKILL)


def note_death(folder: RunFolder, code: int) -> str:
    """Say that the job ended without a result, where it could not.

    Returns:
        The reason.
    """
    if told := gone(folder.path):
        return told
    reason = f"killed by {killed_by(-code)}" if code < 0 else f"exit code {code} without a result"
    with folder.noting(f"failed: {reason}"):
        if folder.status()["state"] != "failed":
            folder.set_status("failed", reason=reason, exit_code=code)
        status = folder.status()
        reason = str(status.get("reason", reason))
        before = status.get("restarts", 0)
        if before and is_of_the_machine(code):
            reason = f"{reason}; it was started again {before}x before (trainer.restarts)"
            folder.set_status("failed", reason=reason)
    return reason


def note_restart(folder: RunFolder, code: int, *, number: int, of: int) -> str:
    """Say that the job begins again, for the `number`th time of at most so many.

    Returns:
        Why, in words.
    """
    reason, step = note_death(folder, code), 0
    with folder.noting(f"queued again: {reason}"):
        step = folder.status().get("step", 0)
        folder.set_status("queued", restarts=number, restarted_after=reason)
    return f"{reason}, at step {step}: started again from the last checkpoint (restart {number} of {of})"
