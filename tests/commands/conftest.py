"""The console scripts as people run them, and one small table that was really trained."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

# Calls main() and says on stderr which heavy libraries were imported by then.
_PROBE = """
import sys
try:
    from atrous.commands.{name} import main
    main()
finally:
    print("heavy:", *sorted({{"torch", "lightning", "wandb", "albumentations"}} & set(sys.modules)), file=sys.stderr)
"""

SMOKE_TABLE = ("+experiment=deeplabv3/table1", "scale=smoke", "rows=[os8,os256]")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str
    heavy: list[str]
    seconds: float

    @property
    def errors(self) -> list[str]:
        """What it complained about."""
        return [line for line in self.err.splitlines() if not line.startswith("heavy:")]


Run = Callable[..., Ended]


def run_command(name: str, *arguments: str, cwd: Path, **environment: str) -> Ended:
    """Run a console script in a folder, as its own process."""
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", _PROBE.format(name=name), *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "160", **environment},
        timeout=120,
        check=False,
    )
    (heavy,) = [line.split()[1:] for line in done.stderr.splitlines() if line.startswith("heavy:")]
    return Ended(done.returncode, done.stdout, done.stderr, heavy, time.monotonic() - start)


@pytest.fixture
def atrous(tmp_path: Path) -> Run:
    """`atrous("train", "seed=1")` in an empty folder."""

    def run(name: str, *arguments: str, **environment: str) -> Ended:
        return run_command(name, *arguments, cwd=tmp_path, **environment)

    return run


@dataclass(frozen=True)
class Trained:
    """A folder with a store in outputs/, how the sweep that filled it ended, and its runs; tests add others."""

    folder: Path
    ended: Ended
    rows: tuple[Path, ...] = ()

    def run(self, name: str, *arguments: str) -> Ended:
        """A command in the folder."""
        return run_command(name, *arguments, cwd=self.folder)

    def runs(self) -> list[Path]:
        """The folders of the runs, that of the highest output stride first."""
        return sorted(path.parent for path in self.folder.glob("outputs/runs/*/seed*/run.json"))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Two rows of DeepLabv3's Table 1, two steps each."""
    folder = tmp_path_factory.mktemp("trained")
    trained = Trained(folder, run_command("train", "-m", *SMOKE_TABLE, cwd=folder))
    return replace(trained, rows=tuple(trained.runs()))
