"""The run store: one folder per training, and what its files mean.

    <store>/runs/<what>-<hash>/seed<k>/
        run.json       identity, seed, command: written once, before anything starts
        config.yaml    the resolved config
        status.json    queued / running / stopped / failed / done, and how far
        metrics.csv    losses and validation scores by step
        checkpoints/   last.ckpt, the one before it as previous.ckpt, best.ckpt
        results.json   parameters, Multiply-Adds, times, one entry per evaluation protocol
        evaluation/    by entry: what was counted in each image, the page, the archive for a test server
        log.txt        what the job printed
        nonfinite/     batches whose loss or gradient was not finite
        stack-rank<k>.txt    where a rank was when it was ended for showing no sign of life
        lock           held by the process that trains or measures the run, and who that is

Training and studies meet only here. Files are written atomically, but for metrics.csv and log.txt, which grow by lines.
A damaged one is set aside as NAME.damaged-N by the next start (status.json by what runs); a newer version's is refused.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atrous import run_files, run_lock
from atrous.errors import StoreError
from atrous.files import set_aside, write_json, write_text
from atrous.run_files import FORMAT, JSON_FILES, DamagedError
from atrous.run_shapes import STATES


@dataclass(frozen=True)
class RunFolder:
    """One training's folder."""

    path: Path

    @property
    def config_file(self) -> Path:
        """The resolved config."""
        return self.path / "config.yaml"

    @property
    def log_file(self) -> Path:
        """What the job printed."""
        return self.path / "log.txt"

    @property
    def last_checkpoint(self) -> Path:
        """The newest state of the training."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def previous_checkpoint(self) -> Path:
        """The state that was saved before the newest one, for when that cannot be read."""
        return self.path / "checkpoints" / "previous.ckpt"

    @property
    def best_checkpoint(self) -> Path:
        """The weights with the highest mIoU on val during the training."""
        return self.path / "checkpoints" / "best.ckpt"

    def create(self, *, config_yaml: str, facts: Mapping[str, Any]) -> None:
        """Write what identifies the run; a folder that has it already keeps its identity.

        Readers of a folder look for config.yaml first, so that comes last: where it is, run.json is too.
        """
        write_json(self.path / "run.json", {"format": FORMAT, **facts})
        write_text(self.config_file, config_yaml)

    def config(self) -> dict[str, Any]:
        """The resolved config, as plain values.

        Raises:
            StoreError: config.yaml is missing or damaged.
        """
        import yaml

        try:
            value = yaml.load(self.config_file.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
        except FileNotFoundError:
            raise StoreError(f"{self.config_file}: missing") from None
        except OSError as error:
            raise StoreError(f"{self.config_file}: cannot be read ({error.strerror})") from None
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise StoreError(f"{self.config_file}: not readable as YAML ({str(error).splitlines()[0]})") from None
        if not isinstance(value, dict):
            raise StoreError(f"{self.config_file}: not the config of a run")
        return value

    def facts(self) -> dict[str, Any]:
        """Identity, family, seed, command."""
        return self._read("run.json")

    def status(self) -> dict[str, Any]:
        """The state of the run; `{"state": "missing"}` where there is none."""
        return self._read("status.json") or {"state": "missing"}

    def set_status(self, state: str, **details: Any) -> None:
        """Change the state, keeping the other entries unless they are given anew.

        A failure's reason does not outlive the next start, nor how far an evaluation is what comes after it.
        """
        assert state in STATES, state
        try:
            old = self._read("status.json")
        except DamagedError:
            old, kept = {}, set_aside(self.path / "status.json").name
            print(f"{self.path}: status.json was damaged: kept as {kept}, and made anew", file=sys.stderr, flush=True)  # noqa: T201
        passing = ["evaluating"]
        if state in ("queued", "running", "done"):
            passing += ["reason", "exit_code", "traceback", "last_failure"]
        old = {key: value for key, value in old.items() if key not in passing}
        status = {"format": FORMAT, **old, "state": state, **details, "updated": round(time.time(), 3)}
        run_files.write(self.path / "status.json", status)

    @contextmanager
    def noting(self, what: str) -> Iterator[None]:
        """Note how the run ended; where status.json can be neither read nor written, print it instead.

        Args:
            what: the state and its reason, which a full disk must not hide.
        """
        try:
            yield
        except (OSError, StoreError) as error:
            print(f"{self.path}: {what}; but status.json does not say so: {error}", file=sys.stderr, flush=True)  # noqa: T201

    def results(self) -> dict[str, Any]:
        """Parameters, Multiply-Adds, times and evaluations; empty where nothing was measured yet."""
        return self._read("results.json")

    def add_results(self, **sections: Any) -> None:
        """Merge sections into results.json; entries of `evaluations` are added one by one."""
        results = {"format": FORMAT, "evaluations": {}, **self.results()}
        results["evaluations"] = {**results["evaluations"], **sections.pop("evaluations", {})}
        run_files.write(self.path / "results.json", {**results, **sections})

    @property
    def is_done(self) -> bool:
        """Whether the training has reached its last step and was measured; False where status.json is damaged."""
        return bool(self._read_sound("status.json").get("state") == "done")

    def missing_protocols(
        self, wanted: list[str], *, boundary: bool = False, submission: str | None = None
    ) -> list[str]:
        """Those of the `wanted` protocols that there is no result for.

        Args:
            wanted: names of protocols.
            boundary: whether a result has to hold the scores of outlines.
            submission: the test server whose archive is the result, instead of an entry of `evaluations`.
        """
        if submission is not None:
            return [name for name in wanted if not self.submission_file(submission, name).is_file()]
        have = self._read_sound("results.json").get("evaluations", {})
        return [name for name in wanted if name not in have or (boundary and "boundary" not in have[name])]

    def evaluation_folder(self, entry: str) -> Path:
        """Where the files of an entry of `evaluations` lie: images.npz, and the page."""
        return self.path / "evaluation" / entry

    def records_file(self, entry: str) -> Path:
        """What was counted in each image for an entry of `evaluations`."""
        return self.evaluation_folder(entry) / "images.npz"

    def submission_file(self, server: str, entry: str) -> Path:
        """The archive for a test server, predicted under a protocol."""
        return self.evaluation_folder(entry) / f"submission_{server}.zip"

    def lock(self, *, wait: Callable[[], bool] | None = None) -> AbstractContextManager[int | None]:
        """Hold the run; see `atrous.run_lock.hold`."""
        return run_lock.hold(self.path, wait=wait)

    def holder(self) -> str:
        """The process that took the lock last, as `process PID on HOST`."""
        return run_lock.holder(self.path)

    def damaged(self) -> dict[str, str]:
        """The files that are damaged, with what is wrong with each.

        Raises:
            StoreError: a newer version wrote one of the files.
        """
        found = {}
        for name in JSON_FILES:
            try:
                self._read(name)
            except DamagedError as error:
                found[name] = str(error)
        return found

    def set_damaged_aside(self) -> list[Path]:
        """Rename what is damaged to NAME.damaged-N, so that it can be made anew and looked at.

        Returns:
            The new names.

        Raises:
            StoreError: a newer version wrote one of the files; nothing is changed then.
        """
        return [set_aside(self.path / name) for name in self.damaged()]

    def _read_sound(self, name: str) -> dict[str, Any]:
        """A file's content, empty where it is damaged: the next start sets that aside."""
        try:
            return self._read(name)
        except DamagedError:
            return {}

    def _read(self, name: str) -> dict[str, Any]:
        return run_files.read(self.path / name)


def all_runs(store: Path) -> list[RunFolder]:
    """Every run of a store, sorted by path."""
    return [RunFolder(path.parent) for path in sorted(store.glob("runs/*/seed*/run.json"))]
