"""W&B beside a training: what a run holds, and that no outage of server, disk or service reaches the training."""

import csv
import json
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from multiprocessing.connection import Pipe
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from wandb.proto import wandb_internal_pb2

from atrous.boards import board, process
from atrous.boards.board import Board, sync_command
from atrous.boards.log import read_records
from atrous.boards.process import resolve_mode
from atrous.errors import StoreError
from atrous.studies.wandb_sync import unsent_runs

KEY = "0123456789abcdef0123456789abcdef01234567"  # pragma: allowlist secret
RUN = {"project": "lab", "entity": None, "id": "abcd1234", "group": "table", "name": "os8-seed0", "job_type": "train"}
SMALL = (
    "backbone=tiny",
    "backbone.units=[1,1,1,1]",
    "backbone.width=4",
    "model=deeplabv3",
    "model.aspp_channels=8",
    "recipe.batch_size=2",
    "recipe.crop_size=33",
    "data.train.length=8",
    "data.train.size=33",
    "data.val.length=2",
    "data.val.size=33",
    "data.val_batch_size=2",
    "data.num_workers=0",
    "trainer.threads=1",
    "trainer.log_every=1",
    "logger=wandb",
    "logger.wandb.patience=3",
)


def records(file: Path) -> list[Any]:
    """What W&B's client wrote, by its own message types."""
    messages: Any = wandb_internal_pb2
    found = [messages.Record.FromString(content) for content in read_records(file)]
    return [getattr(record, record.WhichOneof("record_type")) for record in found]


def history(file: Path) -> list[dict[str, Any]]:
    entries = [record for record in records(file) if type(record).__name__ == "HistoryRecord"]
    return [{"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in entry.item} for entry in entries]


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No login, and none of the settings that this machine may have."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "no-settings"))


pytestmark = pytest.mark.usefixtures("alone")


def begin(folder: Path, *, mode: str = "offline", patience: float = 20.0) -> Board:
    return Board(run={**RUN, "dir": str(folder), "config": {"model": {"blocks": 7}}}, mode=mode, patience=patience)


def only_file(folder: Path) -> Path:
    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    return file


def test_a_run_holds_scalars_by_step_masks_config_and_summary(tmp_path: Path) -> None:
    run = begin(tmp_path)
    run.log({"train/loss": 0.5}, step=10)
    picture = (np.zeros((8, 8, 3), np.uint8), np.full((8, 8), 255), np.ones((8, 8), np.int64), "scene 3")
    run.log_masks([picture], classes={0: "sky", 1: "disc"}, step=20)
    assert run.finish({"single/miou": 0.25}, exit_code=0)
    assert run.mode == "offline"
    entries = history(only_file(tmp_path))
    assert entries[0]["train/loss"] == 0.5
    assert [entry["trainer/global_step"] for entry in entries] == [10, 20]
    assert len(list(tmp_path.glob("wandb/offline-run-*/files/media/images/val/*.png"))) == 1
    assert '"single/miou"' in str(records(only_file(tmp_path)))
    metrics = {record.glob_name: record.step_metric for record in records(only_file(tmp_path)) if _is(record, "Metric")}
    assert metrics["*"] == "trainer/global_step"


def _is(record: Any, kind: str) -> bool:
    return type(record).__name__ == f"{kind}Record"


@pytest.fixture
def hanging_server() -> Iterator[str]:
    """Takes every connection and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("server", ["refusing", pytest.param("hanging", marks=pytest.mark.exhaustive)])
def test_a_run_whose_server_is_away_is_kept_on_disk(
    server: str,
    hanging_server: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", hanging_server if server == "hanging" else "http://127.0.0.1:9")
    folder = tmp_path / "of mine" / "runs" / "net-1a" / "seed0"
    folder.mkdir(parents=True)
    run = begin(folder, mode="auto", patience=1.0)
    run.log({"train/loss": 0.5}, step=10)
    assert run.finish({}, exit_code=0)
    assert run.mode == "offline"
    assert history(only_file(folder))[0]["train/loss"] == 0.5
    said = capfd.readouterr().err
    assert said.count("warning:") == 1
    assert "cannot be reached" in said
    assert f"kept on disk for `make wandb-sync 'STORE={tmp_path}/of mine'`" in said
    assert len(unsent_runs(tmp_path / "of mine")) == 1


@pytest.mark.parametrize(
    ("folder", "command"),
    [
        ("/a/outputs/runs/net/seed0", "make wandb-sync STORE=/a/outputs"),
        ("/a/reports/runs/net/seed0", "make wandb-sync STORE=/a/reports"),
        ("/a/outputs/reports/deeplabv3/table1", "make wandb-sync STORE=/a/outputs"),
        ("/a/runs/mine", "wandb sync /a/runs/mine/wandb/offline-run-*"),
    ],
)
def test_what_is_kept_on_disk_is_sent_from_its_own_store(folder: str, command: str) -> None:
    assert sync_command(Path(folder)) == command


def test_a_folder_that_cannot_be_written_is_said_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "wandb").write_text("in the way")
    run = begin(tmp_path)
    run.log({"train/loss": 0.5}, step=1)
    assert not run.finish({}, exit_code=0)
    assert capfd.readouterr().err.count("warning: W&B failed (FileExistsError") == 1


def test_a_disk_that_takes_only_a_part_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        run = begin(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    for step in range(100):
        run.log({"train/loss": 0.5}, step=step)
    assert not run.finish({}, exit_code=0)
    assert "is the disk full?" in capfd.readouterr().err


def _service(run_process: int) -> int:
    """The process of W&B's service, once it writes."""
    children = Path(f"/proc/{run_process}/task/{run_process}/children")
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for child in children.read_text().split() if children.exists() else ():
            with suppress(OSError):  # it has just ended
                if b"wandb-core" in Path(f"/proc/{child}/cmdline").read_bytes():
                    return int(child)
        time.sleep(0.05)
    raise AssertionError("W&B started no service")


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds W&B's service in /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.exhaustive)])
def test_a_service_that_dies_or_hangs_neither_raises_nor_blocks(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(board, "_OWN_SECONDS", 1.0)
    run = begin(tmp_path, patience=10.0)
    assert run._process is not None
    service = _service(run._process.pid)
    while not list(tmp_path.glob("wandb/offline-run-*/*.wandb")):
        time.sleep(0.05)
    os.kill(service, number)
    try:
        start = time.monotonic()
        for step in range(2000):
            run.log({"train/loss": 0.5}, step=step)
        assert time.monotonic() - start < 10.0, "a log call waits for W&B"
        assert not run.finish({}, exit_code=0)
        assert time.monotonic() - start < 60.0
    finally:
        if number == signal.SIGSTOP:
            os.kill(service, signal.SIGKILL)
    assert capfd.readouterr().err.count("warning:") == 1


def _write_netrc(path: Path, content: str) -> None:
    path.write_text(content)
    path.chmod(0o600)


@pytest.mark.parametrize(
    ("content", "mode"),
    [
        ("", "offline"),
        ("machine api.wandb.ai login user password \n", "offline"),
        ("machine github.com login user password secret\n", "offline"),
        ("not a netrc file", "offline"),
        (f"machine api.wandb.ai login user password {KEY}\n", "online"),
        (f"machine wandb.example:8080 login user password {KEY}\n", "online"),
    ],
)
def test_only_something_like_a_login_leads_online(
    content: str, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_netrc(tmp_path / "netrc", content)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert resolve_mode("auto", "https://wandb.example:8080") == mode


def test_a_blank_key_is_no_login_and_a_given_mode_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "  ")
    assert resolve_mode("auto", "https://wandb.example") == "offline"
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert resolve_mode("auto", "https://wandb.example") == "online"
    assert resolve_mode("offline", "https://wandb.example") == "offline"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert resolve_mode("auto", "https://wandb.example") == "disabled"
    monkeypatch.setenv("WANDB_MODE", "run")  # W&B's older names
    assert resolve_mode("auto", "https://wandb.example") == "online"
    monkeypatch.setenv("WANDB_MODE", "dryrun")
    assert resolve_mode("auto", "https://wandb.example") == "offline"


def test_what_wandb_offline_has_written_is_obeyed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    subprocess.run([sys.executable, "-m", "wandb", "offline"], check=True)
    assert "mode = offline" in (tmp_path / "wandb" / "settings").read_text()
    capfd.readouterr()
    run = begin(tmp_path / "run", mode="auto", patience=1.0)
    assert run.finish({}, exit_code=0)
    assert run.mode == "offline"
    assert capfd.readouterr().err == "", "no server is looked for"
    monkeypatch.setenv("WANDB_MODE", "online")
    assert resolve_mode("auto", "https://wandb.example", kept="offline") == "online"


def test_a_file_of_another_kind_and_a_damaged_one_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other.wandb").write_bytes(b"not W&B")
    with pytest.raises(StoreError, match="not a file of W&B"):
        list(read_records(tmp_path / "other.wandb"))
    run = begin(tmp_path)
    run.finish({}, exit_code=0)
    content = bytearray(only_file(tmp_path).read_bytes())
    whole = len(records(only_file(tmp_path)))
    only_file(tmp_path).write_bytes(content[:-3])
    assert len(records(only_file(tmp_path))) == whole - 1
    content[20] ^= 1
    only_file(tmp_path).write_bytes(content)
    with pytest.raises(StoreError, match="damaged at byte 7"):
        list(read_records(only_file(tmp_path)))


def _train(store: Path, *overrides: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "atrous.commands.train", *SMALL, f"store={store}", *overrides]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _steps(run: Path) -> list[int]:
    with (run / "metrics.csv").open(newline="") as stream:
        return [int(row["step"]) for row in csv.DictReader(stream) if row["train/loss"]]


@pytest.mark.exhaustive
def test_a_training_whose_server_refuses_is_whole_and_the_key_is_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    training = _train(tmp_path, "recipe.max_steps=4")
    out, _ = training.communicate(timeout=240)
    assert training.returncode == 0, out
    (run,) = tmp_path.glob("runs/*/seed0")
    assert _steps(run) == [1, 2, 3, 4]
    assert out.count("warning: W&B") == 1
    assert KEY not in out
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert only_file(run) in written
    assert not [path for path in written if KEY.encode() in path.read_bytes()]


@pytest.mark.exhaustive
def test_a_resumed_training_goes_on_in_the_same_w_and_b_run(tmp_path: Path) -> None:
    for stop in ("trainer.stop_at_step=2", "trainer.stop_at_step=null"):
        training = _train(tmp_path, "recipe.max_steps=4", stop)
        out, _ = training.communicate(timeout=240)
        assert training.returncode == 0, out
    (run,) = tmp_path.glob("runs/*/seed0")
    files = sorted(run.glob("wandb/offline-run-*/*.wandb"))
    key = json.loads((run / "run.json").read_text())["key"]
    assert [file.name for file in files] == [f"run-{key}.wandb"] * 2
    steps = [[entry["trainer/global_step"] for entry in history(file) if "train/loss" in entry] for file in files]
    assert steps == [[1, 2], [3, 4]]


@pytest.mark.exhaustive
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds W&B's service in /proc")
def test_a_training_outlives_w_and_bs_service(tmp_path: Path) -> None:
    training = _train(tmp_path, "recipe.max_steps=60")
    end = time.monotonic() + 120
    services: list[int] = []
    while not services and time.monotonic() < end:
        time.sleep(0.05)
        services = [
            int(path.parent.name) for path in Path("/proc").glob("[0-9]*/environ") if _is_service(path, tmp_path)
        ]
    for service in services:
        os.kill(service, signal.SIGKILL)
    out, _ = training.communicate(timeout=240)
    assert services
    assert training.returncode == 0, out
    (run,) = tmp_path.glob("runs/*/seed0")
    assert _steps(run) == list(range(1, 61))
    assert json.loads((run / "status.json").read_text())["state"] == "done"
    assert out.count("warning: W&B") == 1


def _is_service(environ: Path, store: Path) -> bool:
    try:
        is_ours = str(store).encode() in environ.read_bytes()
        return is_ours and b"wandb-core" in (environ.parent / "cmdline").read_bytes().split(b"\0")[0]
    except OSError:
        return False


class _Client:
    """Stands in for W&B's client: a run whose server takes everything, or refuses it."""

    def __init__(self, folder: Path, refuses: str | None) -> None:
        self.dir, self.entity, self._refuses = str(folder / "files"), None, refuses
        self.settings = SimpleNamespace(base_url="http://127.0.0.1", mode="online")
        self.Settings = SimpleNamespace

    def setup(self) -> "_Client":
        return self

    def init(self, **_: Any) -> "_Client":
        return self

    def define_metric(self, *_: Any, **__: Any) -> None:
        pass

    def finish(self, *, exit_code: int) -> None:
        if self._refuses is not None:
            raise OSError(self._refuses)

    def teardown(self) -> None:
        pass


@pytest.mark.parametrize("refuses", [None, "no server"])
def test_a_run_that_is_abandoned_is_sent_again_only_where_the_server_has_not_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: str | None
) -> None:
    (tmp_path / "files").mkdir()
    monkeypatch.setitem(sys.modules, "wandb", _Client(tmp_path, refuses))
    monkeypatch.setattr(signal, "alarm", lambda _: 0)  # it would end the tests
    run = process.BoardRun(SimpleNamespace(send=lambda _: None))  # type: ignore[arg-type]
    run.begin(run={"dir": str(tmp_path)}, mode="online", patience=3)
    assert (tmp_path / process.UNSENT).exists()
    with nullcontext() if refuses is None else pytest.raises(OSError, match=refuses):
        run.abandon()
    assert (tmp_path / process.UNSENT).exists() == (refuses is not None)


def test_a_key_is_hidden_also_where_an_error_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    for length in range(240, 310):
        assert KEY[:4] not in process._said(ValueError("x" * length + KEY))


# Stands in for W&B's client: notes what a run is told.
_NOTING = """
from pathlib import Path
from types import SimpleNamespace as Settings
folder = Path({folder!r})
dir, entity, settings = str(folder / "files"), None, Settings(base_url="", mode="online")
def setup(): import wandb; return wandb
init = lambda **_: setup()
define_metric = lambda *_, **__: None
log = lambda values: (folder / "said").open("a").write("log ")
finish = lambda *, exit_code: (folder / "said").open("a").write("finish ")
teardown = lambda: None
"""


@pytest.mark.parametrize("torn", [False, True])
def test_a_training_that_is_killed_at_any_moment_leaves_a_run_that_is_closed(
    torn: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wandb.py").write_text(_NOTING.format(folder=str(tmp_path)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    commands, ours = Pipe(duplex=False)
    notes, theirs = Pipe(duplex=False)
    notes.close()  # as if killed while W&B begins
    process = board._start(commands, theirs)
    commands.close()
    theirs.close()
    ours.send(("begin", {"run": {"dir": str(tmp_path / "run")}, "mode": "online", "patience": 5}))
    ours.send(("log", {"values": {"train/loss": 0.5}, "step": 1}))
    if torn:  # the length of a message and its beginning
        os.write(ours.fileno(), struct.pack("!i", 1000) + b"half of it")
    ours.close()
    assert process.wait(60) == 1
    assert (tmp_path / "said").read_text() == "log finish "
