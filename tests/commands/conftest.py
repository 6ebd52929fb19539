"""The console scripts as people run them, as forks of a process with the imports done, and one small trained table."""

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from atrous.forkserver import Forkserver

# What every console script has imported soon, and what those have that compute something themselves.
_HYDRA = ("hydra.main", "hydra._internal.hydra", "hydra.core.override_parser.overrides_parser")
_LIGHT = (*_HYDRA, "numpy", "PIL.Image", "rich.live", "atrous.commands.train")
_HEAVY = (
    *_LIGHT,
    "torch",
    "atrous.networks.deeplab",
    "atrous.prediction",
    "atrous.commands.evaluate",
    "atrous.data.datamodule",
    "matplotlib.figure",
)

_NO_COMPLAINT = re.compile(r"heavy:|.*: \d+ of (\d+|\?)$")
_PROBE = Path(__file__).with_name("probe.py")
SMOKE_TABLE = ("+experiment=deeplabv3/table1", "scale=smoke", "rows=[os8,os256]")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str
    heavy: list[str]

    @property
    def errors(self) -> list[str]:
        """What it complained about, without how far it was."""
        return [line for line in self.err.splitlines() if not _NO_COMPLAINT.match(line)]


Run = Callable[..., Ended]


_servers: dict[tuple[tuple[str, ...], bool], Forkserver] = {}
_environments: dict[bool, dict[str, str]] = {}  # with coverage counting, without
_counted = True


@pytest.fixture(scope="session", autouse=True)
def _forkservers() -> Iterator[None]:
    """Those that coverage counts have the environment of the session, which asks for it."""
    with ExitStack() as servers:
        _environments[True] = dict(os.environ)
        _environments[False] = {name: os.environ[name] for name in os.environ if name != "COVERAGE_PROCESS_CONFIG"}
        yield
        for server in _servers.values():
            servers.enter_context(server)
        _servers.clear()


@pytest.fixture(autouse=True)
def _commands_of_marked_tests_uncounted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have coverage count the commands of a test only if it counts the test itself."""
    monkeypatch.setitem(globals(), "_counted", request.node.get_closest_marker("no_cover") is None)


def run_command(
    name: str, *arguments: str, cwd: Path, environment: Mapping[str, str] | None = None, computes: bool = False
) -> Ended:
    """Run a console script in a folder, as its own process.

    Args:
        name: what follows "atrous-".
        *arguments: of it.
        cwd: the folder.
        environment: variables beside those of the tests.
        computes: it will import torch anyway, as atrous-data does: start with it.
    """
    modules = _HEAVY if computes or name == "data" else _LIGHT
    server = _servers.get((modules, _counted))
    if server is None:
        server = _servers[modules, _counted] = Forkserver(modules, _environments[_counted])
    variables = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "160", **(environment or {})}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        command = [str(_PROBE), name, *arguments]
        code = server.start(command, variables, out=out.fileno(), err=err.fileno(), folder=cwd).wait(120)
        out.seek(0)
        err.seek(0)
        printed, complaints = out.read(), err.read()
    (heavy,) = [line.split()[1:] for line in complaints.splitlines() if line.startswith("heavy:")]
    return Ended(code, printed, complaints, heavy)


@pytest.fixture
def atrous(tmp_path: Path) -> Run:
    """`atrous("train", "seed=1")` in an empty folder."""

    def run(name: str, *arguments: str, computes: bool = False, **environment: str) -> Ended:
        return run_command(name, *arguments, cwd=tmp_path, environment=environment, computes=computes)

    return run


@dataclass(frozen=True)
class Trained:
    """A folder with a store in outputs/, how the sweep that filled it ended, and its runs; tests add others."""

    folder: Path
    ended: Ended
    rows: tuple[Path, ...] = ()

    def run(self, name: str, *arguments: str, computes: bool = False) -> Ended:
        """A command in the folder."""
        return run_command(name, *arguments, cwd=self.folder, computes=computes)

    def runs(self) -> list[Path]:
        """The folders of the runs, that of the highest output stride first."""
        return sorted(path.parent for path in self.folder.glob("outputs/runs/*/seed*/run.json"))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Two rows of DeepLabv3's Table 1, two steps each."""
    folder = tmp_path_factory.mktemp("trained")
    trained = Trained(folder, run_command("train", "-m", *SMOKE_TABLE, cwd=folder))
    return replace(trained, rows=tuple(trained.runs()))
