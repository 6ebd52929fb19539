"""Which of several ranks' ends is told as the reason, and whether another try is worth it."""

from pathlib import Path
from signal import SIGKILL, SIGTERM

import pytest

from atrous.exit_codes import FAILED, TEMPORARY
from atrous.run_store import RunFolder
from atrous.training.job import note_deaths


@pytest.mark.parametrize(
    ("said", "codes", "code", "reason"),
    [
        # One rank raises and says why; torchrun then ends the other, whose death explains nothing.
        ("the loss is nan", {0: 1, 1: -SIGTERM}, FAILED, "the loss is nan"),
        ("the loss is nan", {1: -SIGTERM}, FAILED, "the loss is nan"),
        # One is killed; what the other says of its lost connection follows from that.
        ("connection reset by peer", {0: 1, 1: -SIGKILL}, TEMPORARY, "rank 1 was killed by SIGKILL"),
        (None, {0: -SIGTERM, 1: -SIGKILL}, TEMPORARY, "rank 1 was killed by SIGKILL"),
        # All were ended from outside.
        (None, {0: -SIGTERM, 1: -SIGTERM}, TEMPORARY, "rank 0 was killed by SIGTERM, rank 1 was killed by SIGTERM"),
        # One hung, and its watchdog has told where.
        ("rank 0 showed no sign of life", {0: TEMPORARY, 1: -SIGTERM}, TEMPORARY, "rank 0 showed no sign of life"),
        (None, {0: 3}, FAILED, "ranks ended without a reason: 0 (exit code 3)"),
    ],
)
def test_the_first_cause_is_the_reason(
    said: str | None, codes: dict[int, int], code: int, reason: str, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path)
    folder.set_status("running")
    if said is not None:
        folder.set_status("failed", reason=said)
    assert note_deaths(folder, codes) == code
    assert folder.status()["state"] == "failed"
    assert folder.status()["reason"] == reason
