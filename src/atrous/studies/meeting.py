"""How the ranks of one run find each other before torch.distributed does: through files in the run's folder.

The first rank stays until the last one has come: with nothing to do it would be gone before one that starts late.

The token is of one launch, but a launch that was killed may leave its files, and the next may have the same token
(torchrun without --rdzv-id). So a rank counts as present only once its sign of life has changed under our eyes, and
the first one, which is the only one that writes tickets, clears them away before it gives a sign. No clocks are
compared.
"""

import os
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from atrous.errors import AtrousError
from atrous.files import write_json, write_text
from atrous.studies.meeting_files import MeetingFiles
from atrous.studies.ranks import Ranks

BEAT_SECONDS = 2.0
SILENCE_SECONDS = 30.0
ARRIVAL_SECONDS = 300.0
_POLL_SECONDS = 0.2
_SECONDS_TO_A_WORD = 10.0  # on ranks that have not come; half a minute between the next ones
_PARTING_SECONDS = 30.0  # a rank ends its process first, which may take 25 s of them


class MeetingError(AtrousError):
    """Ranks that did not come, or went away."""

    exit_code = 1


@dataclass
class _Peer:
    """Another rank as this one sees it."""

    sign: Any
    since: float = field(default_factory=time.monotonic)
    is_present: bool = False


class Meeting:
    """This rank's place among the others, from entering to leaving.

    Args:
        folder: of the run.
        ranks: who this rank is.
    """

    def __init__(self, folder: Path, ranks: Ranks) -> None:
        self._files, self._ranks = MeetingFiles(folder / "ranks" / ranks.token), ranks
        self._problem, self._report, self._count = "", "", 0
        self._is_concluded = False
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        # The first rank watches all others, and they watch the first: what it hears of one, all hear from it.
        others = range(1, ranks.world_size) if ranks.rank == 0 else [0]
        self._peers = {rank: _Peer(self._files.read_sign(rank)) for rank in others}
        self._looked = time.monotonic()
        self._speaks_at = self._looked + _SECONDS_TO_A_WORD

    def __enter__(self) -> "Meeting":
        if self._ranks.rank == 0:
            self._files.clear()
        self._give_sign()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        has_failed = kind is not None and issubclass(kind, Exception)
        if self._ranks.rank == 0:
            if not self._is_concluded and has_failed:
                self.issue(error=f"rank 0 failed: {type(value).__name__}: {value}")
            elif not self._is_concluded:
                self.issue(outcome="stopped")  # Ctrl-C, or SLURM wants the machine back
            self._see_others_off(waits_for_late_ones=kind is None or has_failed)
        self._left.set()
        self._thread.join()
        if self._ranks.rank == 0:
            self._files.remove()
            return
        if self._is_concluded:
            with suppress(AtrousError, OSError):  # how it ended stays what it is
                write_text(self._files.gone(self._ranks.rank), "")
        self._files.sign(self._ranks.rank).unlink(missing_ok=True)

    def issue(self, **ticket: Any) -> None:
        """Tell the other ranks the next decision.

        Args:
            ticket: `start` (which run of the line) and `meeting` (a name for its processes), or the `outcome`, or the
                `error`.
        """
        write_json(self._files.ticket(self._count), ticket)
        self._count += 1
        self._is_concluded = "start" not in ticket

    def next_ticket(self) -> dict[str, Any]:
        """Wait for the first rank's next decision.

        Raises:
            MeetingError: the first rank has not come, or has gone.
        """
        while (ticket := self.peek()) is None:
            self._raise_problem()
            time.sleep(_POLL_SECONDS)
        self._count += 1
        self._is_concluded = "start" not in ticket
        return ticket

    def peek(self) -> dict[str, Any] | None:
        """The first rank's next decision, if it is there and of this launch."""
        self._look()
        return self._files.read_ticket(self._count) if self._peers[0].is_present else None

    def report(self, problem: str) -> None:
        """Tell the first rank that this one cannot go on."""
        self._report = problem
        self._give_sign()

    def problem(self) -> str:
        """What is wrong with another rank, empty while all is well; what was wrong once stays."""
        self._look()
        if not self._problem:
            self._problem = next(filter(None, map(self._problem_with, self._peers)), "")
            self._say_who_is_missing()
        return self._problem

    def _missing(self) -> list[int]:
        """The ranks that are still to come, as far as the last look saw."""
        return [rank for rank in self._peers if not self._has_come(rank)]

    def _say_who_is_missing(self) -> None:
        """Now and then, with how long they are waited for."""
        now = time.monotonic()
        if now >= self._speaks_at and (missing := self._missing()):
            self._speaks_at = now + 3 * _SECONDS_TO_A_WORD
            left = ARRIVAL_SECONDS - (now - min(self._peers[rank].since for rank in missing))
            who = f"rank {', '.join(map(str, missing))} of {self._ranks.world_size}"
            what = f"waiting {left:.0f} s more for {who}: no sign of life in {self._files.folder} yet"
            print(what, file=sys.stderr, flush=True)  # noqa: T201

    def _raise_problem(self) -> None:
        if problem := self.problem():
            raise MeetingError(problem)

    def _problem_with(self, rank: int) -> str:
        peer = self._peers[rank]
        patience = SILENCE_SECONDS if peer.is_present else ARRIVAL_SECONDS
        if peer.is_present and peer.sign and peer.sign["problem"]:
            return f"rank {rank} on {peer.sign['host']} failed: {peer.sign['problem']}"
        if peer.is_present and not self._files.sign(rank).exists():
            return f"rank {rank} was ended"
        if time.monotonic() - peer.since < patience:
            return ""
        if not peer.is_present:
            return (
                f"rank {rank} of {self._ranks.world_size} has not come to {self._files.folder} "
                f"within {patience:.0f} s: do all of them run the same command, and do their machines share the store?"
            )
        where = f" on {peer.sign['host']}" if peer.sign else ""
        return f"rank {rank}{where} ended without a word, or has been silent for {patience:.0f} s"

    def _look(self) -> None:
        """Note whose sign of life has changed."""
        now = time.monotonic()
        if now - self._looked > SILENCE_SECONDS / 2:  # we were asleep ourselves (a suspended machine, a debugger)
            for peer in self._peers.values():
                peer.since = now
        self._looked = now
        for rank, peer in self._peers.items():
            sign = self._files.read_sign(rank)
            if sign is not None and sign != peer.sign:
                peer.sign, peer.since, peer.is_present = sign, now, True

    def _see_others_off(self, *, waits_for_late_ones: bool) -> None:
        """Stay, and give signs, until the others have read how it ended: they know by a sign that a ticket is new."""
        while waits_for_late_ones and self._missing():
            self._say_who_is_missing()
            time.sleep(_POLL_SECONDS)
            self._look()
        end = time.monotonic() + _PARTING_SECONDS
        while time.monotonic() < end and any(map(self._is_still_here, self._peers)):
            time.sleep(_POLL_SECONDS)

    def _has_come(self, rank: int) -> bool:
        """Whether a rank is here, or was, or is not waited for any longer."""
        return self._peers[rank].is_present or self._files.gone(rank).exists() or self._problem_with(rank) != ""

    def _is_still_here(self, rank: int) -> bool:
        """Whether a rank is still here, and gives signs."""
        self._look()
        return self._files.sign(rank).exists() and time.monotonic() - self._peers[rank].since < SILENCE_SECONDS

    def _beat(self) -> None:
        while not self._left.wait(BEAT_SECONDS):
            with suppress(AtrousError, OSError):  # a full disk or a slow server: the next one may come through
                self._give_sign()

    def _give_sign(self) -> None:
        facts = {"host": socket.gethostname(), "process": os.getpid(), "problem": self._report}
        sign = {**facts, "sign": time.monotonic_ns()}  # another one each time, that is all it means
        write_json(self._files.sign(self._ranks.rank), sign)
