"""The run store: what its files mean, what damaged ones do, and who holds a run."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atrous import run_store
from atrous.errors import StoreError
from atrous.files import NoSpaceError
from atrous.run_files import FORMAT
from atrous.run_store import RunFolder, all_runs

from .conftest import ReadDamaged


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run's folder that does not exist yet."""
    return RunFolder(tmp_path / "runs" / "net-0123" / "seed0")


@pytest.fixture
def empty(folder: RunFolder) -> RunFolder:
    """One that is there."""
    folder.path.mkdir(parents=True)
    return folder


def test_a_run_that_never_was_is_missing_and_empty(folder: RunFolder) -> None:
    assert folder.status() == {"state": "missing"}
    assert folder.results() == {}
    assert not folder.is_done
    assert folder.missing_protocols(["single"]) == ["single"]
    assert not folder.path.exists(), "looking writes nothing"


def test_a_state_keeps_details_until_they_are_given_anew(empty: RunFolder) -> None:
    empty.set_status("running", step=3, max_steps=10)
    empty.set_status("stopped", step=5)
    status = empty.status()
    assert (status["state"], status["step"], status["max_steps"]) == ("stopped", 5, 10)


@pytest.mark.parametrize("state", ["queued", "running", "done"])
def test_the_reason_of_a_failure_does_not_outlive_the_next_start(empty: RunFolder, state: str) -> None:
    empty.set_status("failed", reason="nan", exit_code=1, traceback="...", step=4)
    empty.set_status(state)
    assert not {"reason", "exit_code", "traceback"} & set(empty.status())
    assert empty.status()["step"] == 4


def test_results_of_protocols_add_up(empty: RunFolder) -> None:
    empty.add_results(evaluations={"single": {"miou": 0.5}}, training={"seconds": 1})
    empty.add_results(evaluations={"ms": {"miou": 0.6}}, model={"parameters": 2})
    empty.add_results(evaluations={"single": {"miou": 0.7}})
    results = empty.results()
    assert results["evaluations"] == {"single": {"miou": 0.7}, "ms": {"miou": 0.6}}
    assert (results["training"], results["model"]) == ({"seconds": 1}, {"parameters": 2})
    assert empty.missing_protocols(["ms", "flip", "single"]) == ["flip"]


@pytest.mark.parametrize(
    "content", [b"", b'{"state": "do', b"[1]", b"\xff\xfe", json.dumps({"format": FORMAT + 1}).encode()]
)
@pytest.mark.parametrize("name", ["status.json", "results.json", "run.json"])
def test_a_damaged_or_newer_file_is_named(folder: RunFolder, name: str, content: bytes) -> None:
    folder.path.mkdir(parents=True)
    (folder.path / name).write_bytes(content)
    read = {"status.json": folder.status, "results.json": folder.results, "run.json": folder.facts}[name]
    with pytest.raises(StoreError) as caught:
        read()
    assert str(folder.path / name) in str(caught.value)
    assert "move the folder away" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b'{"state": "do', b"[1]", b"\xff\xfe", b'{"format": "x"}'])
@pytest.mark.parametrize("name", ["status.json", "results.json", "run.json"])
def test_a_damaged_file_is_set_aside_under_a_name_of_its_own(folder: RunFolder, name: str, content: bytes) -> None:
    folder.create(config_yaml="", facts={"name": "net"})
    folder.set_status("done")
    folder.add_results(evaluations={"single": {"miou": 0.5}})
    sound = {path.name: path.read_bytes() for path in folder.path.glob("*.json") if path.name != name}
    for number in (1, 2):
        (folder.path / name).write_bytes(content)
        assert list(folder.damaged()) == [name]
        assert folder.set_damaged_aside() == [folder.path / f"{name}.damaged-{number}"]
        assert (folder.path / f"{name}.damaged-{number}").read_bytes() == content
        assert not (folder.path / name).exists()
    assert folder.damaged() == {}
    assert {path.name: path.read_bytes() for path in folder.path.glob("*.json")} == sound


def test_a_status_that_is_damaged_while_its_run_goes_on_does_not_end_it(
    empty: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    empty.set_status("running", step=1)
    (empty.path / "status.json").write_bytes(b'{"form')
    empty.set_status("running", step=2)
    status = empty.status()
    assert (status["state"], status["step"]) == ("running", 2)
    assert (empty.path / "status.json.damaged-1").read_bytes() == b'{"form'
    assert "status.json was damaged: kept as status.json.damaged-1" in capsys.readouterr().err


def test_a_damaged_run_is_not_done_and_has_no_results_until_it_is_mended(empty: RunFolder) -> None:
    empty.set_status("done")
    empty.add_results(evaluations={"single": {"miou": 0.5}})
    (empty.path / "results.json").write_text("{")
    assert empty.missing_protocols(["single"]) == ["single"]
    assert empty.is_done
    (empty.path / "status.json").write_text("{")
    assert not empty.is_done


@pytest.mark.parametrize("name", ["status.json", "results.json", "run.json"])
def test_a_newer_run_is_refused_and_nothing_of_it_changes(folder: RunFolder, name: str) -> None:
    folder.path.mkdir(parents=True)
    for each in ("status.json", "results.json", "run.json"):
        (folder.path / each).write_text(json.dumps({"format": FORMAT + 1}) if each == name else "damaged")
    before = {path.name: path.read_bytes() for path in folder.path.iterdir()}
    for look in (folder.damaged, folder.set_damaged_aside):
        with pytest.raises(StoreError, match=f"newer version of atrous .format {FORMAT + 1}") as caught:
            look()
        assert str(folder.path) in str(caught.value)
    assert {path.name: path.read_bytes() for path in folder.path.iterdir()} == before


def test_a_run_that_has_a_config_has_an_identity(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_store, "write_text", die)
    with pytest.raises(KeyboardInterrupt):
        folder.create(config_yaml="a: 1\n", facts={"name": "net"})
    assert folder.facts()["name"] == "net"
    assert not folder.config_file.exists()
    monkeypatch.undo()
    monkeypatch.setattr(run_store, "write_json", die)
    other = RunFolder(folder.path.with_name("seed1"))
    with pytest.raises(KeyboardInterrupt):
        other.create(config_yaml="a: 1\n", facts={"name": "net"})
    assert not other.path.exists()


@pytest.mark.parametrize("error", [NoSpaceError("no space left in /x"), PermissionError("no"), StoreError("no")])
def test_a_reason_that_cannot_be_noted_is_printed(
    folder: RunFolder, error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    with folder.noting("failed: the loss is nan"):
        raise error
    assert (
        capsys.readouterr().err == f"{folder.path}: failed: the loss is nan; but status.json does not say so: {error}\n"
    )


def test_what_else_goes_wrong_while_a_reason_is_noted_is_raised(empty: RunFolder) -> None:
    with pytest.raises(TypeError), empty.noting("failed: the loss is nan"):
        empty.set_status("failed", reason=object())


def test_a_store_lists_its_runs(tmp_path: Path) -> None:
    for name in ("b-1/seed0", "a-2/seed1", "a-2/seed0"):
        RunFolder(tmp_path / "runs" / name).create(config_yaml="", facts={"name": name})
    (tmp_path / "runs" / "stray").mkdir()
    assert [run.facts()["name"] for run in all_runs(tmp_path)] == ["a-2/seed0", "a-2/seed1", "b-1/seed0"]
    assert all_runs(tmp_path / "nowhere") == []


_HOLDER = """
import sys, time
from pathlib import Path
from atrous.run_store import RunFolder
with RunFolder(Path(sys.argv[1])).lock():
    print("held", flush=True)
    time.sleep(60)
"""


def _is_held(folder: RunFolder) -> bool:
    script = "import fcntl, sys; fcntl.flock(open(sys.argv[1], 'a'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    command = [sys.executable, "-c", script, str(folder.path / "lock")]
    return subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode != 0


def test_a_run_has_one_holder_and_is_free_when_that_one_is_killed(folder: RunFolder) -> None:
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER, str(folder.path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert _is_held(folder)
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert not _is_held(folder)
    with folder.lock():
        assert _is_held(folder)
    assert not _is_held(folder)


def test_who_waits_for_a_run_is_told_for_whom_or_gives_up(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER, str(folder.path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    name = f"process {holder.pid} on {socket.gethostname()}"
    assert folder.holder() == name
    with folder.lock(wait=lambda: False) as lock:
        assert lock is None

    class Told(io.StringIO):
        def write(self, text: str) -> int:
            holder.kill()
            return super().write(text)

    monkeypatch.setattr(sys, "stderr", told := Told())
    with folder.lock() as lock:
        assert lock is not None
        assert folder.holder() == f"process {os.getpid()} on {socket.gethostname()}"
    holder.communicate()
    assert told.getvalue() == f"{folder.path} is in use by {name}; waiting for it\n"


def test_a_job_holds_its_run_when_the_one_that_started_it_is_gone(folder: RunFolder) -> None:
    with folder.lock() as lock:
        assert lock is not None
        job = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=(lock,))
    try:
        assert _is_held(folder), "the job's process holds on to the lock"
    finally:
        job.kill()
        job.wait()
    assert not _is_held(folder)


def test_a_store_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="store="), RunFolder(tmp_path / "file" / "seed0").lock():
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_store_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="Permission denied"), RunFolder(tmp_path / "seed0").lock():
        pass


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "missing"),
        (b"a: [", "not readable as YAML"),
        (b"\xff", "not readable as YAML"),
        (b"[" * 5000, "not readable as YAML"),
        (b"- a", "not the config of a run"),
    ],
)
def test_a_damaged_config_names_its_file(folder: RunFolder, content: bytes | None, reason: str) -> None:
    folder.path.mkdir(parents=True)
    if content is not None:
        folder.config_file.write_bytes(content)
    with pytest.raises(StoreError, match=rf"config\.yaml: {reason}"):
        folder.config()


def test_json_that_is_nested_too_deeply_is_damaged(folder: RunFolder) -> None:
    folder.path.mkdir(parents=True)
    (folder.path / "status.json").write_text("[" * 100_000)
    with pytest.raises(StoreError, match=r"status\.json: not readable as JSON"):
        folder.status()


@given(st.data())
def test_damaged_files_of_a_run_are_read_or_set_aside(
    tmp_path_factory: pytest.TempPathFactory, read_damaged: ReadDamaged, data: st.DataObject
) -> None:
    folder = RunFolder(tmp_path_factory.getbasetemp() / "damaged")
    folder.create(config_yaml="a: 1\n", facts={"name": "net", "seed": 0})
    name = data.draw(st.sampled_from(["run.json", "status.json", "results.json"]))
    sound = {"format": 1, "state": "done", "name": "net", "evaluations": {"single": {"miou": 0.5}}}

    def read(damaged: bytes) -> bool:
        (folder.path / name).write_bytes(damaged)
        folder.set_damaged_aside()
        assert not folder.damaged()
        folder.set_status("running", step=1)
        folder.facts()
        return folder.is_done

    assert read_damaged(data, json.dumps(sound).encode(), read) in (None, False)
    for path in folder.path.glob("*.json*"):
        path.unlink()
