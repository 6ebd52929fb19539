"""The process behind atrous.boards.board: the only place that runs W&B's client.

`python -m atrous.boards.process COMMANDS NOTES`, two inherited pipes. It takes commands until `finish`, or until the
process that gives them has gone, and says in notes what people should know.
"""

import netrc
import os
import signal
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from atrous.boards.board import sync_command
from atrous.boards.log import read_records
from atrous.boards.refusals import refusals

_STEP = "trainer/global_step"
UNSENT = "unsent"  # in the folder of an online run until the server has all of it
_HOST = "api.wandb.ai"
_OLD_NAMES = {"run": "online", "dryrun": "offline"}  # of modes, which W&B takes too


class BoardRun:
    """Every command that a board gives, on one W&B run.

    Args:
        notes: where to say what people should know.
    """

    def __init__(self, notes: Connection) -> None:
        self._notes = notes

    def begin(self, *, run: Mapping[str, Any], mode: str, patience: float) -> None:
        """Start the run, offline where the server cannot be reached or refuses."""
        _require_writable(Path(run["dir"]) / "wandb")
        import wandb

        self._wandb, self._patience = wandb, patience
        settings = wandb.setup().settings
        mode = resolve_mode(mode, settings.base_url, kept=settings.mode)
        try:
            self._run = self._init(run, mode)
        except Exception as error:
            if mode != "online":
                raise
            command = sync_command(Path(run["dir"]))
            self._say("said", f"cannot be reached ({_said(error)}): kept on disk for `{command}`")
            wandb.teardown()  # or its service takes the id for one that is in use
            self._run = self._init(run, "offline")
            mode = "offline"
        self._folder, self._is_disabled = Path(self._run.dir).parent, mode == "disabled"
        self._unsent = self._folder / UNSENT if mode == "online" else None
        self._say("began", {"mode": mode, "entity": self._run.entity or None})
        if self._unsent is not None:
            self._unsent.touch()
        self._run.define_metric(_STEP)
        self._run.define_metric("*", step_metric=_STEP)

    def _say(self, kind: str, content: Any) -> None:
        with suppress(OSError):  # whoever would listen was killed
            self._notes.send((kind, content))

    def _init(self, run: Mapping[str, Any], mode: Any) -> Any:
        settings = self._wandb.Settings(
            silent=True, console="off", init_timeout=self._patience, x_stats_pid=os.getppid(), program="atrous-train"
        )
        return self._wandb.init(**run, mode=mode, resume="allow", settings=settings)

    def log(self, *, values: Mapping[str, Any], step: int | None) -> None:
        """Log scalars."""
        self._run.log({**values, _STEP: step})

    def log_masks(self, *, images: Sequence[tuple[Any, ...]], classes: Mapping[int, str], step: int) -> None:
        """Log images with truth and prediction as masks."""
        pictures = [
            self._wandb.Image(
                pixels,
                caption=name,
                masks={
                    "prediction": {"mask_data": prediction, "class_labels": dict(classes)},
                    "truth": {"mask_data": truth, "class_labels": {**classes, 255: "void"}},
                },
            )
            for pixels, truth, prediction, name in images
        ]
        self._run.log({"val/samples": pictures, _STEP: step})

    def log_table(self, *, name: str, columns: list[Any], rows: list[Any]) -> None:
        """Log a table."""
        self._run.log({name: self._wandb.Table(columns=columns, data=rows, allow_mixed_types=True)})

    def finish(self, *, summary: Mapping[str, Any], exit_code: int) -> None:
        """Write the summary and close the run."""
        self._run.summary.update(dict(summary))
        self._close(exit_code)
        if self._unsent is None and not self._is_disabled:
            _require_complete(self._folder)

    def abandon(self) -> None:
        """Close the run of a process that has gone, within the time that a finish has."""
        signal.alarm(int(2 * self._patience) + 1)
        self._close(1)

    def _close(self, exit_code: int) -> None:
        self._run.finish(exit_code=exit_code)
        self._wandb.teardown()  # waits for the service, which may still be writing
        if self._unsent is None:
            return
        for _, reason in refusals(self._folder / "logs" / "debug-internal.log"):
            command = sync_command(self._folder.parents[1])
            self._say("said", f"did not take everything ({reason}): kept on disk for `{command}`")
            return
        self._unsent.unlink(missing_ok=True)


def resolve_mode(mode: str, base_url: str, *, kept: str = "online") -> str:
    """W&B's own mode for ours: `auto` obeys WANDB_MODE and `wandb offline`, then asks for anything like a login.

    Whether a login is good only the server knows; where it says no, the run goes on offline.

    Args:
        mode: auto, online, offline or disabled.
        base_url: of the server.
        kept: of the client's settings: what `wandb offline` has written, and online where nothing is.
    """
    if mode != "auto":
        return mode
    wanted = os.environ.get("WANDB_MODE") or kept
    wanted = _OLD_NAMES.get(wanted, wanted)
    is_asked_for = bool(os.environ.get("WANDB_MODE")) or wanted != "online"
    return wanted if is_asked_for or _has_login(base_url) else "offline"


def _has_login(base_url: str) -> bool:
    if any(os.environ.get(name, "").strip() for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")):
        return True
    try:
        logins = netrc.netrc(str(Path(os.environ.get("NETRC", "~/.netrc")).expanduser()))
    except (OSError, netrc.NetrcParseError):
        return False
    found = (logins.authenticators(host) for host in (urlsplit(base_url).netloc, _HOST))
    return any(login is not None and (login[2] or "").strip() for login in found)


def _require_writable(folder: Path) -> None:
    """W&B itself would go on in the system's temporary folder, where nobody finds the run again."""
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".writable-{os.getpid()}"
    probe.write_text("?")
    probe.unlink()


def _require_complete(folder: Path) -> None:
    """W&B is silent about a disk that took only a part; what it writes last says that the run has ended."""
    from wandb.proto import wandb_internal_pb2

    messages: Any = wandb_internal_pb2  # generated: its classes are not in its source
    for file in folder.glob("*.wandb"):
        last = deque(read_records(file), maxlen=1)
        if not last or messages.Record.FromString(last[0]).WhichOneof("record_type") != "exit":
            raise OSError(f"{file} is not complete: is the disk full?")


def _said(error: BaseException) -> str:
    """An error in one line, without the key."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    key = os.environ.get("WANDB_API_KEY", "").strip()
    return (text.replace(key, "***") if key else text)[:300]


def main(arguments: Sequence[str]) -> int:
    """Serve one board.

    Args:
        arguments: the file descriptors of the two pipes.

    Returns:
        The exit code: 0 when the run was finished, 1 when its owner has gone.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the training, which then finishes the run
        signal.signal(number, signal.SIG_IGN)
    commands = Connection(int(arguments[0]), writable=False)
    notes = Connection(int(arguments[1]), readable=False)
    run = BoardRun(notes)
    try:
        while True:
            try:
                name, content = commands.recv()
            except (EOFError, OSError):  # killed, the latter in the middle of a message
                run.abandon()
                return 1
            getattr(run, name)(**content)
            if name == "finish":
                return 0
    except Exception as error:
        with suppress(OSError):
            notes.send(("lost", f"failed ({_said(error)})"))
        sys.stdout.flush()
        os._exit(1)  # W&B's own way out may wait for a service that is no longer there


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
