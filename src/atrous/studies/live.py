"""The live view of a sweep: a line per running job, and one for the whole."""

import threading
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from atrous.run_store import STATES
from atrous.studies.jobs import Job

_MARKS = {
    "done": "[green]done[/]",
    "skipped": "[dim]done before[/]",
    "failed": "[red]failed[/]",
    "stopped": "[yellow]stopped[/]",
    "cancelled": "[yellow]cancelled[/]",
}


class LiveView:
    """Shows the state of every job, read from its status.json; prints a line for each that ends.

    Args:
        todo: the jobs, in the order of their indices.
        console: where to print.
    """

    def __init__(self, todo: Sequence[Job], console: Console) -> None:
        self._jobs, self._console = todo, console
        self._running: dict[int, TaskID] = {}
        self._lock = threading.Lock()  # jobs end in threads of their own
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            refresh_per_second=2,
            get_time=None,
        )
        self._all = self._progress.add_task("all runs", total=len(todo), note="")

    def __enter__(self) -> "LiveView":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def on_change(self, index: int, state: str) -> None:
        """A job has started or ended."""
        with self._lock:
            self._change(index, state)

    def _change(self, index: int, state: str) -> None:
        job = self._jobs[index]
        title = f"{job.config['row'] or job.identity.name} seed {job.identity.seed}"
        if state == "running":
            total = job.config["recipe"]["max_steps"]
            self._running[index] = self._progress.add_task(escape(title), total=total, note="starting")
            return
        self._progress.remove_task(self._running.pop(index))
        self._progress.advance(self._all)
        score = f"  mIoU {100 * job.score():.2f}%" if state in ("done", "skipped") else ""
        self._console.print(
            f"{_MARKS[state]}  {escape(title + score)}  [dim]{escape(str(job.folder.path))}[/]", soft_wrap=True
        )

    def refresh(self) -> None:
        """Read how far the running jobs are."""
        with self._lock:
            for index, task in self._running.items():
                self._show(index, task)

    def _show(self, index: int, task: TaskID) -> None:
        status = self._jobs[index].folder.status()
        assert status["state"] in (*STATES, "missing")
        loss = status.get("loss")
        note = (
            status["state"] if loss is None else f"loss {loss:.3f}  {status.get('images_per_second', 0):.1f} images/s"
        )
        self._progress.update(task, completed=status.get("step", 0), note=note)
