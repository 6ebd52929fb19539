"""Sending the offline W&B runs of a store: each of them once, and none that is still being written."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from atrous import processes, run_lock
from atrous.boards.log import whole_size
from atrous.boards.process import UNSENT
from atrous.boards.refusals import refusals
from atrous.errors import AtrousError, StoreError
from atrous.run_store import RunFolder

_PER_CALL = 200  # paths on a command line


class SyncError(AtrousError):
    """Some runs were not sent."""

    exit_code = 1


@dataclass(frozen=True)
class UnsentRun:
    """One W&B run, or what was added to one by a resumed training, on this disk alone.

    Attributes:
        file: the `.wandb` file.
        title: what it is, for people.
    """

    file: Path
    title: str

    @property
    def is_sent(self) -> bool:
        """Whether `wandb sync` has marked it."""
        return _mark(self.file).is_file()

    @property
    def is_unsent(self) -> bool:
        """Whether the server has not all of it."""
        is_kept_here = self.file.parent.name.startswith("offline-run-") or (self.file.parent / UNSENT).is_file()
        return is_kept_here and not self.is_sent

    @property
    def owner(self) -> Path:
        """The folder of the training, or of the report, whose run it is."""
        return self.file.parents[2]


def unsent_runs(store: Path) -> list[UnsentRun]:
    """What `wandb sync` has to send, oldest first: offline runs, and online ones whose server went away."""
    files = [*store.glob("runs/*/seed*/wandb/*run-*/*.wandb"), *store.glob("reports/**/wandb/*run-*/*.wandb")]
    found = [UnsentRun(file, _title(file)) for file in files]
    return sorted((run for run in found if run.is_unsent), key=lambda run: run.file.parent.name.partition("run-")[2])


def sync(store: Path, *, dry_run: bool) -> None:
    """Say what will be sent, and send it with `wandb sync`, which marks what the server has taken.

    Args:
        store: the run store.
        dry_run: only say it.

    Raises:
        SyncError: lists what was not sent.
    """
    with _held(unsent_runs(store)) as (todo, busy):
        for run in busy:
            print(f"still being written, left for the next time: {run.title}")  # noqa: T201
        for run in [run for run in todo if _size(run.file) == 0]:
            print(f"nothing in it, it was killed too early: {run.title}  {run.file.parent}")  # noqa: T201
            todo.remove(run)
        size = sum(run.file.stat().st_size for run in todo) / 2**20
        total = f"{len(todo)} to send from {store}, {size:.1f} MiB and their images"
        print(total if todo else f"nothing to send from {store}")  # noqa: T201
        for run in todo:
            print(f"  {run.title}  {run.file.parent}", flush=True)  # noqa: T201
        if not dry_run:
            _send(todo)


def _send(todo: Sequence[UnsentRun]) -> None:
    refused: dict[Path, str] = {}
    for first in range(0, len(todo), _PER_CALL):
        refused |= _call_client(todo[first : first + _PER_CALL])
    for run in todo:
        if run.is_sent:
            (run.file.parent / UNSENT).unlink(missing_ok=True)
    if left := [run for run in todo if not run.is_sent]:
        lines = [f"{len(left)} of {len(todo)} runs were not sent (wandb says why above; `wandb login` logs in)"]
        for run in left:
            why = refused.get(run.file.absolute())
            lines.append(f"  {run.title}  {run.file.parent}" + (f"  ({why})" if why else ""))
        raise SyncError("\n".join(lines))


def _call_client(runs: Sequence[UnsentRun]) -> dict[Path, str]:
    """Have `wandb sync` send runs; return why the server refused a part of some, which then are not marked as sent."""
    refused: dict[Path, str] = {}
    folders = [str(run.file.parent) for run in runs]
    for run in runs:
        if (size := _size(run.file)) is not None and size < run.file.stat().st_size:
            os.truncate(run.file, size)  # with a torn record at its end it would be sent again and again
    with TemporaryDirectory(prefix="atrous-wandb-") as logs:
        _keep_settings(Path(logs))
        try:
            subprocess.run(
                processes.bound_command(sys.executable, "-m", "wandb", "sync", "--include-online", *folders),
                env={**os.environ, "WANDB_DIR": logs},
                check=False,
            )
        finally:
            for log in Path(logs).glob("wandb/logs/*.log"):
                refused |= {Path(file).absolute(): why for file, why in refusals(log) if file is not None}
            for file in refused:
                _mark(file).unlink(missing_ok=True)
    return refused


def _keep_settings(home: Path) -> None:
    """Take along what `wandb init` has written where the command is called: the client reads it in its own folder."""
    before = Path(os.environ.get("WANDB_DIR") or ".")
    settings = before / (".wandb" if (before / ".wandb").exists() else "wandb") / "settings"
    if settings.is_file():
        (home / "wandb").mkdir()
        shutil.copyfile(settings, home / "wandb" / "settings")


@contextmanager
def _held(runs: Sequence[UnsentRun]) -> Iterator[tuple[list[UnsentRun], list[UnsentRun]]]:
    """Those whose training is not running, which cannot start meanwhile; and the others.

    Of a training that was killed, the process that writes for W&B may have a minute left.
    """
    free: dict[Path, bool] = {}
    with ExitStack() as locks:
        for owner in sorted({run.owner for run in runs}):
            is_held = locks.enter_context(run_lock.hold(owner, wait=lambda: False)) is not None
            free[owner] = is_held and not processes.members(owner)
        left = [run for run in runs if not free[run.owner] or run.is_unsent]  # others may have sent it until now
        yield [run for run in left if free[run.owner]], [run for run in left if not free[run.owner]]


def _mark(file: Path) -> Path:
    """What `wandb sync` leaves beside a run that it has sent."""
    return file.with_name(f"{file.name}.synced")


def _size(file: Path) -> int | None:
    """The bytes of a run's whole records; None where only W&B's client can say what the file is."""
    try:
        return whole_size(file)
    except StoreError:
        return None


def _title(file: Path) -> str:
    """What a run is, for people: by its file where the folder it belongs to does not say so."""
    try:
        facts = RunFolder(file.parents[2]).facts()
        return f"{facts.get('table') or facts['name']}: {facts.get('row') or facts['name']}-seed{facts['seed']}"
    except (StoreError, KeyError):
        return file.stem
