"""The live view of a sweep: rows x seeds, a line per job that runs, and one for the whole."""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from atrous.errors import StoreError
from atrous.studies.jobs import Job
from atrous.studies.pace import Pace

_STYLES = {
    "queued": "dim",
    "running": "bold cyan",
    "elsewhere": "magenta",
    "done": "green",
    "skipped": "green",
    "failed": "bold red",
    "stopped": "yellow",
    "cancelled": "yellow",
}
_WORDS = {"skipped": "done before", "elsewhere": "trained elsewhere"}
_ACTIVE = ("running", "elsewhere")
_ENDED = ("done", "skipped", "failed", "stopped", "cancelled")


class LiveView:
    """Shows the state of every job, read from its status.json; on a terminal as a grid, elsewhere a line per event.

    Args:
        todo: the jobs, in the order of their indices.
        console: where to print.
        slots: jobs that run at once.
    """

    def __init__(self, todo: Sequence[Job], console: Console, *, slots: int = 1) -> None:
        self._jobs, self._console, self._slots = todo, console, slots
        self._states = ["queued"] * len(todo)
        self._scores: dict[int, str] = {}
        self._names = [str(job.config["row"] or job.identity.name) for job in todo]
        self._pace = Pace(self._names, [int(job.config["recipe"]["max_steps"]) for job in todo])
        self._lock = threading.Lock()  # jobs start and end in threads of their own
        self._live = Live(get_renderable=self.render, console=console, refresh_per_second=1)

    def __enter__(self) -> "LiveView":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def on_change(self, index: int, state: str) -> None:
        """A job has started or ended, or another process was found to run it."""
        with self._lock:
            self._states[index] = state
            score = self._jobs[index].score() if state in ("done", "skipped") else None
            if score is not None:
                self._scores[index] = f"{100 * score:.2f}"
            if state == "failed" or (state != "running" and not self._console.is_terminal):
                self._console.print(self._event(index, state), soft_wrap=True)

    def on_stop(self) -> None:
        """The jobs were asked to end."""
        running = [job for job, state in zip(self._jobs, self._states, strict=True) if state == "running"]
        seconds = max((job.grace_seconds for job in running), default=0.0)
        self._console.print(
            f"stopping: {len(running)} running jobs save where they are (for up to {seconds:.0f} seconds; "
            "Ctrl-C again ends them at once)",
            soft_wrap=True,
        )

    def _event(self, index: int, state: str) -> str:
        job, note = self._jobs[index], ""
        if state in ("done", "skipped"):
            note = f"  {job.outcome()}"
        elif state == "failed":
            status = self._status(index)
            reason = status.get("reason", status.get("last_failure", ""))
            note = f"  {str(reason).partition(chr(10))[0]}"
        elif state == "elsewhere":
            note = f"  by {job.folder.holder()}; its result is waited for"
        title = f"{self._names[index]} seed {job.identity.seed}{note}"
        word = f"[{_STYLES[state]}]{_WORDS.get(state, state)}[/]"
        return f"{word}  {escape(title)}  [dim]{escape(str(job.folder.path))}[/]"

    def render(self) -> RenderableType:
        """The grid, cut to the height of the terminal; rows that run are always in it."""
        active = [index for index, state in enumerate(self._states) if state in _ACTIVE]
        statuses = {index: self._status(index) for index in active}
        for index in active:
            self._pace.see(index, int(statuses[index].get("step", 0)))
        details = self._details(statuses)
        room = self._console.size.height - details.row_count - 4  # the head, two lines for the whole, the cursor
        return Group(*self._grid(room), details, self._whole())

    def _grid(self, room: int) -> Iterator[RenderableType]:
        seeds = list(dict.fromkeys(job.identity.seed for job in self._jobs))
        cells: dict[str, dict[int, int]] = {}
        for index, job in enumerate(self._jobs):
            cells.setdefault(self._names[index], {})[job.identity.seed] = index
        shown = self._fitting(cells, room)
        table = Table("row", *(f"seed {seed}" for seed in seeds), box=None, padding=(0, 2, 0, 0), header_style="bold")
        for row in shown:
            table.add_row(Text(row), *(self._cell(cells[row].get(seed)) for seed in seeds))
        yield table
        hidden = Counter(self._states[index] for row in cells if row not in shown for index in cells[row].values())
        if hidden:
            counts = ", ".join(f"{number} {_WORDS.get(state, state)}" for state, number in hidden.items())
            yield _line(f"and {len(cells) - len(shown)} more rows: {counts}", style="dim")

    def _fitting(self, cells: dict[str, dict[int, int]], room: int) -> list[str]:
        """The rows that fit: what runs first, then what failed, what waits, what is done; in the table's order."""
        if len(cells) <= room:
            return list(cells)

        def rank(row: str) -> int:
            states = {self._states[index] for index in cells[row].values()}
            order = (set(_ACTIVE), {"failed", "stopped", "cancelled"}, {"queued"})
            return next((place for place, group in enumerate(order) if states & group), len(order))

        best = set(sorted(cells, key=rank)[: max(1, room - 1)])
        return [row for row in cells if row in best or rank(row) == 0]

    def _cell(self, index: int | None) -> Text:
        if index is None:
            return Text("")
        state = self._states[index]
        text = _WORDS.get(state, state)
        if state in ("done", "skipped"):
            text = self._scores.get(index, text)
        elif state in (*_ACTIVE, "stopped"):
            text = f"{state} {self._percent(index)}"
        return Text(text, style=_STYLES[state], no_wrap=True)

    def _percent(self, index: int) -> str:
        return f"{100 * int(self._status(index).get('step', 0)) // self._jobs[index].config['recipe']['max_steps']}%"

    def _details(self, statuses: dict[int, dict[str, Any]]) -> Table:
        table = Table.grid(*(Column(no_wrap=True) for _ in range(5)), padding=(0, 2, 0, 0))
        for index, status in statuses.items():
            total = self._jobs[index].config["recipe"]["max_steps"]
            step, loss = int(status.get("step", 0)), status.get("loss")
            title = f"{self._names[index]} seed {self._jobs[index].identity.seed}"
            if self._states[index] == "elsewhere":
                speed = f"by {self._jobs[index].folder.holder()}"
            else:
                speed = f"{status['images_per_second']:.1f} images/s" if "images_per_second" in status else ""
            if status.get("state") != "running":
                what = "ending" if status.get("state") == "done" else "starting"
                cells = [title, what, "", speed if self._states[index] == "elsewhere" else "", ""]
                table.add_row(*map(Text, cells))
                continue
            cells = [
                title,
                f"{step}/{total}" if step < total else f"evaluating {status.get('evaluating', '')}".strip(),
                "" if loss is None else f"loss {loss:.3f}",
                speed,
                _left(self._pace.left(index)) if step < total else "",
            ]
            table.add_row(*map(Text, cells))
        return table

    def _whole(self) -> Text:
        counts = Counter(self._states)
        done = counts["done"] + counts["skipped"]
        is_ours = {i: state != "elsewhere" for i, state in enumerate(self._states) if state not in _ENDED}
        others = [state for state in _STYLES if counts[state] and state not in ("done", "skipped")]
        notes = ", ".join(f"{counts[state]} {_WORDS.get(state, state)}" for state in others)
        left = _left(self._pace.left_in_all(is_ours, self._slots)) if is_ours else ""
        parts = [f"{done} of {len(self._jobs)} runs done", left, notes]
        return _line("; ".join(part for part in parts if part), style="bold")

    def _status(self, index: int) -> dict[str, Any]:
        """A job's status.json; nothing where it cannot be read, which the next start mends."""
        try:
            return self._jobs[index].folder.status()
        except StoreError:
            return {}


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f"{timedelta(seconds=round(seconds))} left"


def _line(text: str, *, style: str) -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")
