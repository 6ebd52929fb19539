"""W&B's own client against a server that refuses a part: a run of which something is missing counts as not sent."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from atrous.boards.board import Board
from atrous.boards.process import UNSENT
from atrous.boards.refusals import refusals
from atrous.studies.wandb_sync import unsent_runs

KEY = "0123456789abcdef0123456789abcdef01234567"  # pragma: allowlist secret


class _Server(ThreadingHTTPServer):
    """As much of W&B's server as a run needs.

    Attributes:
        metrics: the status with which it answers to metrics.
        files: and to files.
        steps: which it has taken.
    """

    metrics, files = 200, 200
    steps: list[int]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer({}, self.server.files)

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.endswith("/file_stream"):
            if self.server.metrics == 200:
                lines = json.loads(content).get("files", {}).get("wandb-history.jsonl", {}).get("content", [])
                self.server.steps += [json.loads(line)["trainer/global_step"] for line in lines]
            self._answer({}, self.server.metrics)
        elif self.path.endswith("/graphql"):
            self._answer({"data": self._data(json.loads(content))}, 200)
        else:  # what W&B's client tells of itself
            self._answer({}, 200)

    def _data(self, asked: dict[str, Any]) -> dict[str, Any]:
        query, variables = asked["query"], asked.get("variables") or {}
        if "upsertBucket" in query:
            project = {"id": "p", "name": "lab", "entity": {"id": "e", "name": "team"}}
            return {"upsertBucket": {"inserted": True, "bucket": {"id": "r", "name": "k1", "project": project}}}
        if "createRunFiles" in query:
            files = [{"name": name, "uploadUrl": f"{self.server.url}/{name}"} for name in variables["files"]]
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}
        return {}

    def _answer(self, content: dict[str, Any], status: int) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[_Server]:
    """A server on this machine, to which there is a login."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.steps = []
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _finish_run(store: Path, *, mode: str) -> None:
    training = store / "runs" / "net" / "seed0"
    training.mkdir(parents=True)
    run = {"project": "lab", "entity": None, "id": "k1", "name": "net-seed0", "dir": str(training)}
    board = Board(run=run, mode=mode, patience=20.0)
    for step in range(3):
        board.log({"train/loss": 0.5}, step=step)
    assert board.finish({}, exit_code=0)
    assert board.mode == mode


def _sync(store: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "atrous.commands.wandb_sync", store.name]
    return subprocess.run(command, cwd=store.parent, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    ("refused", "words"),
    [("metrics", "403 Forbidden"), pytest.param("files", "403 Forbidden", marks=pytest.mark.exhaustive)],
)
def test_a_run_of_which_a_part_was_refused_is_no_run_that_was_sent(
    refused: str, words: str, tmp_path: Path, server: _Server
) -> None:
    _finish_run(tmp_path / "store", mode="offline")
    setattr(server, refused, 403)
    done = _sync(tmp_path / "store")
    assert done.returncode == 1
    assert "1 of 1 runs were not sent" in done.stderr
    assert words in done.stderr.splitlines()[-1]
    assert len(unsent_runs(tmp_path / "store")) == 1
    setattr(server, refused, 200)
    done = _sync(tmp_path / "store")
    assert done.returncode == 0, done.stderr
    assert server.steps[-3:] == [0, 1, 2]
    assert unsent_runs(tmp_path / "store") == []


def test_an_online_run_of_which_a_part_was_refused_is_kept_to_be_sent(
    tmp_path: Path, server: _Server, capfd: pytest.CaptureFixture[str]
) -> None:
    server.metrics = 403
    _finish_run(tmp_path, mode="online")
    said = capfd.readouterr().err
    assert said.count("warning: W&B") == 1
    assert "403 Forbidden" in said
    assert f"kept on disk for `make wandb-sync STORE={tmp_path}`" in said
    assert len(unsent_runs(tmp_path)) == 1


def test_a_run_that_a_kill_cut_off_is_sent_once_as_far_as_it_is_whole(tmp_path: Path, server: _Server) -> None:
    _finish_run(tmp_path / "store", mode="offline")
    (run,) = unsent_runs(tmp_path / "store")
    os.truncate(run.file, run.file.stat().st_size - 3)
    done = _sync(tmp_path / "store")
    assert done.returncode == 0, done.stderr
    assert server.steps == [0, 1, 2]
    assert unsent_runs(tmp_path / "store") == []


@pytest.mark.exhaustive
def test_an_online_run_that_the_server_took_is_not_sent_again(tmp_path: Path, server: _Server) -> None:
    _finish_run(tmp_path, mode="online")
    assert server.steps == [0, 1, 2]
    assert unsent_runs(tmp_path) == []
    assert not list(tmp_path.rglob(UNSENT))


def test_of_a_log_only_what_was_refused_counts(tmp_path: Path) -> None:
    entries: list[Any] = [
        {"level": "INFO", "msg": "filestream: request sent"},
        {"level": "ERROR", "msg": "api: HTTP error", "status": 500},  # which is tried again
        {"level": "WARN", "msg": "file transfer: upload: tried again"},
        {"level": "ERROR", "msg": "file transfer: upload: 403", "sync_path": "a/run-a.wandb"},
        {"level": "ERROR+4", "msg": "filestream: fatal error: gone"},
        ["filestream: fatal error: "],
    ]
    lines = [json.dumps(entry) for entry in entries]
    (tmp_path / "log").write_text("\n".join([*lines, lines[4][:-2]]))
    assert list(refusals(tmp_path / "log")) == [
        ("a/run-a.wandb", "file transfer: upload: 403"),
        (None, "filestream: fatal error: gone"),
    ]
    assert list(refusals(tmp_path / "none")) == []
