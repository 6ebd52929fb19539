"""A W&B run in a process of its own: what befalls W&B, its server or its disk befalls that process alone.

The run's messages go there through a pipe, and nothing here waits for W&B until `finish`, which has a time limit. An
outage is said once, on stderr; whoever logs never notices. The other end is atrous.boards.process.
"""

import queue
import shlex
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

PROGRAM = "atrous.boards.process"
_WAITING_MESSAGES = 4096
_OWN_SECONDS = 30.0  # for W&B to start, and to write on a slow disk what it has


class Board:
    """One W&B run.

    Args:
        run: arguments of `wandb.init`: project, entity, id, name, group, job_type, tags, notes, config, dir. The run
            of an id that exists goes on.
        mode: online, offline, disabled, or auto (online when there is a login).
        patience: seconds to wait for the server when the run begins, and again when it ends.

    Attributes:
        mode: online, offline or disabled, known when the run has finished; None where it never began.
        entity: whose run it is, where W&B said so.
    """

    mode: str | None = None
    entity: str | None = None

    def __init__(self, *, run: Mapping[str, Any], mode: str, patience: float) -> None:
        self._patience, self._lost, self._folder = patience, threading.Event(), Path(run["dir"])
        self._messages: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue(_WAITING_MESSAGES)
        commands, self._commands = Pipe(duplex=False)
        self._notes, notes = Pipe(duplex=False)
        try:
            self._process: subprocess.Popen[bytes] | None = _start(commands, notes)
        except OSError as error:
            self._process = None
            self._lose(f"no process for it can be started ({error.strerror})")
            return
        finally:
            commands.close()
            notes.close()
        self._reader = threading.Thread(target=self._read_notes, daemon=True)
        self._reader.start()
        threading.Thread(target=self._forward, daemon=True).start()
        self._put("begin", run=dict(run), mode=mode, patience=patience)

    def log(self, values: Mapping[str, Any], *, step: int | None) -> None:
        """Log scalars at an optimiser step."""
        self._put("log", values=dict(values), step=step)

    def log_masks(self, images: Sequence[tuple[Any, ...]], *, classes: Mapping[int, str], step: int) -> None:
        """Log images with truth and prediction as masks.

        Args:
            images: (pixels [H, W, 3], truth [H, W], prediction [H, W], name), as arrays.
            classes: names by label.
            step: the optimiser step.
        """
        self._put("log_masks", images=list(images), classes=dict(classes), step=step)

    def log_table(self, name: str, *, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Log a W&B Table."""
        self._put("log_table", name=name, columns=list(columns), rows=[list(row) for row in rows])

    def finish(self, summary: Mapping[str, Any], *, exit_code: int) -> bool:
        """Write the summary, close the run and wait for W&B, though not for ever.

        Returns:
            Whether W&B has everything, on its server or on this disk.
        """
        if self._process is None:
            return False
        self._put("finish", summary=dict(summary), exit_code=exit_code)
        # A run that ends at once may still be waiting for its beginning.
        limit = 2 * self._patience + _OWN_SECONDS
        try:
            self._process.wait(limit)
        except subprocess.TimeoutExpired:
            self._lose(
                f"did not finish within {limit:g} seconds (`{sync_command(self._folder)}` sends what it has kept)"
            )
            self._process.kill()
            self._process.wait()
        self._reader.join()
        return not self._lost.is_set()

    def _put(self, command: str, **content: Any) -> None:
        if self._lost.is_set():
            return
        try:
            self._messages.put_nowait((command, content))
        except queue.Full:
            self._lose(f"has not taken the last {_WAITING_MESSAGES} entries")

    def _forward(self) -> None:
        """Send messages as fast as the process takes them; what is left when it has gone concerns nobody."""
        with self._commands:
            name = ""
            while name != "finish":
                name, content = self._messages.get()
                try:
                    self._commands.send((name, content))
                except OSError:
                    return

    def _read_notes(self) -> None:
        """Pass on what the process says to people; its silence at the end must be that of a run that is finished."""
        assert self._process is not None
        with self._notes:
            while True:
                try:
                    kind, content = self._notes.recv()
                except (EOFError, OSError):
                    break
                if kind == "began":
                    self.mode, self.entity = content["mode"], content["entity"]
                elif kind == "said":
                    _warn(content)
                else:
                    self._lose(content)
        if code := self._process.wait():
            self._lose(f"ended with exit code {code}")

    def _lose(self, reason: str) -> None:
        if not self._lost.is_set():
            self._lost.set()
            _warn(f"{reason}; the run does without it")


def sync_command(folder: Path) -> str:
    """What sends the runs that are kept on disk, from wherever it is typed: for the store, or for a folder in none.

    Args:
        folder: of a training, STORE/runs/NAME/seedK, or of a report, below STORE/reports.
    """
    folder = folder.absolute()
    for parent in folder.parents:
        if parent.name == "reports" or (parent.name == "runs" and parent == folder.parents[1]):
            return f"make wandb-sync {shlex.quote(f'STORE={parent.parent}')}"
    return f"wandb sync {shlex.quote(str(folder / 'wandb'))}/offline-run-*"


def _start(commands: Connection, notes: Connection) -> "subprocess.Popen[bytes]":
    ends = (commands.fileno(), notes.fileno())
    return subprocess.Popen(
        [sys.executable, "-m", PROGRAM, *map(str, ends)],
        pass_fds=ends,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _warn(text: str) -> None:
    print(f"warning: W&B {text}", file=sys.stderr, flush=True)  # noqa: T201
