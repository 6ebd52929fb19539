"""One thread, the real images where a machine has them, and what property tests share."""

import _thread
import copy
import os
import resource
import signal
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.hydra_config import HydraConfig
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from xdist.scheduler import LoadFileScheduling

from atrous.errors import AtrousError

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # of jobs that tests start: they share the cores

SMALL_RUN = (  # a training of seconds on one core, the same bits on every machine
    "backbone=tiny",
    "backbone.units=[1,1,1,1]",
    "backbone.width=4",
    "model=deeplabv3",
    "model.aspp_channels=8",
    "recipe.batch_size=4",
    "recipe.crop_size=65",
    "recipe.precision=32-true",
    "data.train.size=65",
    "data.val.size=65",
    "data.val_batch_size=2",
    "data.num_workers=0",
    "trainer.threads=1",
    "trainer.log_every=1",
)

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A shell starts background jobs with Ctrl-C ignored, and what the tests start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Few cases of every property in the suite, many in `make fuzz`. No deadline: machines are shared.
_slow_machine = [HealthCheck.too_slow]
settings.register_profile(  # the same ones each time, so that a change is at fault where it fails
    "suite", max_examples=25, deadline=None, suppress_health_check=_slow_machine, derandomize=True, database=None
)
settings.register_profile("fuzz", max_examples=300, deadline=None, suppress_health_check=_slow_machine)
settings.load_profile("suite")

_COMMANDS = "tests/commands/"
_CASE_SECONDS = 10
_CASE_BYTES = 1 << 30
ReadDamaged = Callable[[st.DataObject, bytes, Callable[[bytes], Any]], Any]


class _InParts(LoadFileScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    """A file is run by one worker, for what its tests share; so is tests/commands, which shares a trained table."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return _COMMANDS if file.startswith(_COMMANDS) else file


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _InParts:
    """Take the parts in the order of collection, not those with most tests first."""
    config.option.loadscopereorder = False
    return _InParts(config, log)


@pytest.hookimpl(tryfirst=True)  # before pytest looks at the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to `make test-all` what the suite takes only `every` so many cases of.

    Have coverage count the first case of each test, no other unless the test is to be `counted`: Python 3.11 takes
    twice the time where it counts. Put files that take long first, so that no worker is left with one at the end.
    """
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: (_COMMANDS not in item.nodeid, -slow[item.path]))
    cases: Counter[str] = Counter()
    for item in items:
        test = item.nodeid.partition("[")[0]
        every = item.get_closest_marker("every")
        if every is not None and cases[test] % every.args[0]:
            item.add_marker(pytest.mark.exhaustive)
        if cases[test] and item.get_closest_marker("counted") is None:
            item.add_marker(pytest.mark.no_cover)
        cases[test] += 1


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small maps gain nothing from more, and on a busy machine waiting threads cost far more than they save."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _hydra_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test runs within Hydra is over in the next: whether it is asked tells where a run will be made."""
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)


@pytest.fixture(autouse=True)
def _processes_uncounted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have coverage count the processes of fixtures that tests share, and commands (their conftest.py), but no others.

    Python 3.11 imports and runs everything at half the speed where it counts lines.
    """
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


@pytest.fixture(scope="session", autouse=True)
def _cache_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is read from the user's own cache, nor written there; the workers compile once for all."""
    base = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as monkeypatch:
        cache = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
        monkeypatch.setenv("ATROUS_CACHE", str(cache))
        yield


@pytest.fixture(scope="session", autouse=True)
def _composing_uncounted() -> Iterator[None]:
    """Have Hydra compose once what many tests ask for; coverage counts nothing there, where it takes twice as long."""
    compose, known = ConfigLoaderImpl.load_configuration, dict[str, Any]()

    def compose_unwatched(loader: ConfigLoaderImpl, *arguments: Any, **options: Any) -> Any:
        call = partial(compose, loader, *arguments, **options)
        places = [str(entry) for entry in loader.config_search_path.get_path()]
        key = repr((places, Path.cwd(), arguments, options))
        if key not in known:
            known[key] = call() if sys.gettrace() is None else _in_a_thread(call)
        return copy.deepcopy(known[key])

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", compose_unwatched)
        yield


def _in_a_thread(call: Callable[[], Any]) -> Any:
    """What a call gives, or raises, in a thread that coverage, which watches those of `threading`, does not know."""
    result: Future[Any] = Future()

    def run() -> None:
        try:
            result.set_result(call())
        except BaseException as error:
            result.set_exception(error)

    _thread.start_new_thread(run, ())
    return result.result()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with the real VOC subset and CamVid."""
    default = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("ATROUS_TEST_DATA", default))
    if not (folder / "VOCdevkit").is_dir():
        pytest.skip("real images are absent: set ATROUS_TEST_DATA to a folder that holds VOCdevkit and camvid")
    return folder


@pytest.fixture(scope="session")
def read_damaged() -> ReadDamaged:
    """Hand a file's bytes to a reader after damaging them; returns what it read, None where it refused them.

    The reader may end with an error of ours only, within seconds and without a huge allocation.
    """

    def read(data: st.DataObject, content: bytes, reader: Callable[[bytes], Any]) -> Any:
        damaged = _damage(data, content)
        with _bounded():
            try:
                return reader(damaged)
            except AtrousError:
                return None

    return read


def archived_pictures(path: Path) -> dict[str, NDArray[Any]]:
    """The values of every PNG of an archive for a test server, by the picture's name in it."""
    with zipfile.ZipFile(path) as archive:
        return {name: np.asarray(Image.open(archive.open(name), formats=("PNG",))) for name in archive.namelist()}


def _damage(data: st.DataObject, content: bytes) -> bytes:
    """What disks, networks and people do to files: bits flip, parts are cut off, zeroed, doubled or replaced."""
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4), label="changes")):
        start = data.draw(st.integers(0, 9999), label="at, of 10000") * len(changed) // 10_000
        length, bit = data.draw(st.integers(1, 8), label="bytes"), data.draw(st.integers(0, 7))
        kind = data.draw(st.sampled_from(["flip", "cut", "fill", "insert", "double", "replace"]), label="kind")
        if kind == "flip":
            changed[start : start + 1] = bytes(byte ^ 1 << bit for byte in changed[start : start + 1])
        elif kind == "cut":
            del changed[start:]
        elif kind == "fill":
            changed[start : start + length] = (b"\0", b"\xff", b"[", b"9")[bit % 4] * length
        elif kind == "insert":
            changed[start:start] = data.draw(st.binary(min_size=1, max_size=8))
        elif kind == "double":
            changed[start:start] = changed[start : start + 16 * length]
        elif length == 8:
            changed = bytearray(data.draw(st.binary(max_size=200) | st.sampled_from([b"[" * 3000, b'{"a":' * 3000])))
    return bytes(changed)


@contextmanager
def _bounded() -> Iterator[None]:
    """Let a huge allocation and a hang fail."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    handler = signal.signal(signal.SIGALRM, _took_too_long)
    signal.alarm(_CASE_SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (used + _CASE_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)


def _took_too_long(*_: object) -> None:
    raise TimeoutError(f"the reader took more than {_CASE_SECONDS} seconds")
