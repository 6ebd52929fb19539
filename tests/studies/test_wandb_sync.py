"""Offline W&B runs are sent once, in their order, and never while they are being written."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from atrous import processes
from atrous.boards.board import Board
from atrous.files import write_json
from atrous.run_store import RunFolder
from atrous.studies import wandb_sync
from atrous.studies.wandb_sync import unsent_runs

# Stands in for W&B's client: notes its arguments and marks what it was given, but for run ids that begin with "no".
_CLIENT = """
import json, sys
from pathlib import Path
Path({log!r}).open("a").write(json.dumps(sys.argv[1:]) + "\\n")
for folder in sys.argv[1:]:
    for file in Path(folder).glob("run-*.wandb"):
        if not file.name.startswith("run-no"):
            file.with_name(file.name + ".synced").touch()
"""


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `wandb` that notes how it is called in the file that this returns."""
    (tmp_path / "site" / "wandb").mkdir(parents=True)
    (tmp_path / "site" / "wandb" / "__init__.py").touch()
    (tmp_path / "site" / "wandb" / "__main__.py").write_text(_CLIENT.format(log=str(tmp_path / "calls")))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"), prepend=os.pathsep)
    return tmp_path / "calls"


def _run(store: Path, name: str, *, key: str, started: str, kind: str = "offline-run") -> Path:
    """A training's W&B run, as its files lie in a store."""
    training = store / "runs" / f"net-{name}" / "seed0"
    facts = {"format": 1, "name": f"net-{name}", "key": key, "row": name, "seed": 0, "table": "v3/table1"}
    write_json(training / "run.json", facts)
    folder = training / "wandb" / f"{kind}-{started}-{key}"
    folder.mkdir(parents=True)
    (folder / f"run-{key}.wandb").write_bytes(b"W&B")
    return folder


def _sync(store: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "atrous.commands.wandb_sync", str(store), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_runs_are_said_then_sent_oldest_first_and_only_once(tmp_path: Path, client: Path) -> None:
    store = tmp_path / "store"
    resumed = _run(store, "os8", key="k8", started="20260102_000000")
    other = _run(store, "os16", key="k16", started="20260101_120000")
    first = _run(store, "os8", key="k8", started="20260101_000000")
    _run(store, "os32", key="k32", started="20260101_000000", kind="run")  # online: the server has it
    done = _sync(store)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith(f"3 to send from {store}")
    assert f"v3/table1: os16-seed0  {other}" in done.stdout
    assert json.loads(client.read_text()) == ["sync", "--include-online", *map(str, (first, other, resumed))]
    again = _sync(store)
    assert (again.returncode, again.stdout) == (0, f"nothing to send from {store}\n")
    assert len(client.read_text().splitlines()) == 1


@pytest.mark.parametrize("name", ["wandb", ".wandb"])
def test_the_client_keeps_the_settings_of_the_folder_that_it_is_called_from(
    tmp_path: Path, client: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Which server it sends to may stand there."""
    program = client.with_name("site") / "wandb" / "__main__.py"
    reader = 'import os; print("base_url", (Path(os.environ["WANDB_DIR"]) / "wandb" / "settings").read_text())'
    program.write_text(f"{program.read_text()}\n{reader}\n")
    (tmp_path / "here" / name).mkdir(parents=True)
    (tmp_path / "here" / name / "settings").write_text("http://our.server")
    _run(tmp_path / "store", "os8", key="k8", started="20260101_000000")
    monkeypatch.chdir(tmp_path / "here")
    done = _sync(tmp_path / "store")
    assert "base_url http://our.server" in done.stdout, done.stderr


def test_an_online_run_that_lost_its_server_is_sent_too(tmp_path: Path, client: Path) -> None:
    folder = _run(tmp_path / "store", "os8", key="k8", started="20260101_000000", kind="run")
    (folder / "unsent").touch()
    assert _sync(tmp_path / "store").returncode == 0
    assert str(folder) in client.read_text()
    assert unsent_runs(tmp_path / "store") == []
    assert not (folder / "unsent").exists()


def test_a_dry_run_sends_nothing(tmp_path: Path, client: Path) -> None:
    _run(tmp_path / "store", "os8", key="k8", started="20260101_000000")
    assert "os8-seed0" in _sync(tmp_path / "store", "--dry-run").stdout
    assert not client.exists()


def test_a_run_that_is_being_written_waits(tmp_path: Path, client: Path) -> None:
    busy = _run(tmp_path / "store", "os8", key="k8", started="20260101_000000")
    _run(tmp_path / "store", "os16", key="k16", started="20260101_000000")
    with RunFolder(busy.parents[1]).lock():
        done = _sync(tmp_path / "store")
    assert "still being written, left for the next time: v3/table1: os8-seed0" in done.stdout
    assert str(busy) not in client.read_text()
    assert [run.file.parent for run in unsent_runs(tmp_path / "store")] == [busy]


def test_a_run_whose_training_was_killed_waits_for_the_process_that_still_writes(tmp_path: Path, client: Path) -> None:
    busy = _run(tmp_path / "store", "os8", key="k8", started="20260101_000000")
    writes = subprocess.Popen(["sleep", "60"], env={**os.environ, **processes.mark(busy.parents[1])})
    try:
        assert "still being written" in _sync(tmp_path / "store").stdout
    finally:
        writes.kill()
        writes.wait()
    assert not client.exists()
    assert "1 to send" in _sync(tmp_path / "store").stdout


def test_what_the_server_did_not_take_is_listed_and_stays(tmp_path: Path, client: Path) -> None:
    refused = _run(tmp_path / "store", "os8", key="no8", started="20260101_000000")
    _run(tmp_path / "store", "os16", key="k16", started="20260101_000000")
    done = _sync(tmp_path / "store")
    assert done.returncode == 1
    assert "1 of 2 runs were not sent" in done.stderr
    assert str(refused) in done.stderr
    assert [run.file.parent for run in unsent_runs(tmp_path / "store")] == [refused]


def _is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds the client in /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_sync_that_is_ended_says_so_in_a_line_and_leaves_no_client_that_sends(
    number: signal.Signals, tmp_path: Path, client: Path
) -> None:
    slow = tmp_path / "site" / "wandb" / "__main__.py"
    note = f"pathlib.Path({str(client)!r}).write_text(str(os.getpid()) + '.')"
    slow.write_text(f"import os, pathlib, time\n{note}\ntime.sleep(60)")
    _run(tmp_path / "store", "os8", key="k8", started="20260101_000000")
    command = [sys.executable, "-m", "atrous.commands.wandb_sync", str(tmp_path / "store")]
    with (tmp_path / "said").open("w") as said:
        started = subprocess.Popen(command, stderr=said)
    end = time.monotonic() + 60
    while not (client.exists() and client.read_text().endswith(".")) and time.monotonic() < end:
        time.sleep(0.05)
    sending = int(client.read_text().rstrip("."))
    assert _is_running(sending)
    started.send_signal(number)
    assert started.wait(timeout=60) == (143 if number == signal.SIGTERM else -number)
    if number == signal.SIGTERM:
        assert (tmp_path / "said").read_text() == "error: interrupted; the same command sends what is left\n"
    end = time.monotonic() + 10
    while _is_running(sending) and time.monotonic() < end:
        time.sleep(0.05)
    assert not _is_running(sending)


def test_what_another_sync_has_sent_meanwhile_is_not_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [_run(tmp_path, name, key=name, started="20260101_000000") for name in ("os8", "os16")]
    listed = unsent_runs(tmp_path)
    (runs[0] / "run-os8.wandb.synced").touch()
    monkeypatch.setattr(wandb_sync, "unsent_runs", lambda _: listed)
    wandb_sync.sync(tmp_path, dry_run=True)
    said = capsys.readouterr().out
    assert "1 to send" in said
    assert str(runs[0]) not in said


@pytest.mark.parametrize("content", [b"", b":W&B", b":W&B\xe1\xbe\0", b":W&B\xe1\xbe\0half"])
def test_a_run_that_was_killed_before_its_first_record_is_named_and_not_sent(
    content: bytes, tmp_path: Path, client: Path
) -> None:
    empty = _run(tmp_path / "store", "os8", key="k8", started="20260101_000000")
    (empty / "run-k8.wandb").write_bytes(content)
    done = _sync(tmp_path / "store")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"nothing in it, it was killed too early: v3/table1: os8-seed0  {empty}",
        f"nothing to send from {tmp_path / 'store'}",
    ]
    assert not client.exists()


def test_reports_with_a_telling_name_are_sent_oldest_first(tmp_path: Path) -> None:
    for started in ("20260103_000000", "20260101_000000", "20260102_000000"):
        folder = tmp_path / "reports" / "long-run-a" / "wandb" / f"offline-run-{started}-report-long-run-a"
        folder.mkdir(parents=True)
        (folder / "run-report-long-run-a.wandb").write_bytes(b"W&B")
    names = [run.file.parent.name for run in unsent_runs(tmp_path)]
    assert names == sorted(names)


@pytest.mark.parametrize("name", ["nowhere", "long" * 100])
def test_a_store_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    done = _sync(tmp_path / name)
    assert done.returncode == 2
    assert f"{name} is no folder" in done.stderr


def test_w_and_bs_own_client_finds_the_runs_and_without_a_login_they_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    training = tmp_path / "store" / "runs" / "net" / "seed0"
    write_json(training / "run.json", {"format": 1, "name": "net", "key": "k1", "row": None, "seed": 0, "table": None})
    run = {"project": "lab", "entity": None, "id": "k1", "name": "net-seed0", "dir": str(training)}
    assert Board(run=run, mode="offline", patience=20.0).finish({}, exit_code=0)
    done = _sync(tmp_path / "store")
    assert done.returncode == 1
    assert "Syncing 1 run(s)" in done.stderr  # what W&B itself found
    assert len(unsent_runs(tmp_path / "store")) == 1


@pytest.mark.parametrize("content", ['{"format": 1, "na', '{"format": 1}', '{"format": 1, "name": "net"}', "[]"])
def test_a_run_whose_folder_does_not_say_what_it_is_is_called_by_its_file(tmp_path: Path, content: str) -> None:
    _run(tmp_path, "os16", key="k16", started="20260101_000000")
    (tmp_path / "runs" / "net-os16" / "seed0" / "run.json").write_text(content)
    _run(tmp_path, "os8", key="k8", started="20260102_000000")
    assert [run.title for run in unsent_runs(tmp_path)] == ["run-k16", "v3/table1: os8-seed0"]
