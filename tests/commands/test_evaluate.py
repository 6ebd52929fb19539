"""atrous-evaluate: other protocols on a finished run, without training."""

import json
from pathlib import Path

import pytest

from .conftest import Run, Trained


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("run has no value", "run=VALUE")),
        (("run=.",), ("run='.'", "config.yaml")),
        (("runn=.",), ("'runn'", "did you mean run?")),
        (("run=.", "protocol=nope"), ("config.yaml",)),
    ],
)
def test_a_mistake_is_one_line(atrous: Run, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    ended = atrous("evaluate", *arguments)
    assert ended.code == 2
    (line,) = ended.errors
    for word in words:
        assert word in line
    assert ended.heavy == []


def _entries(run: Path) -> dict[str, dict[str, object]]:
    entries: dict[str, dict[str, object]] = json.loads((run / "results.json").read_text())["evaluations"]
    return entries


@pytest.mark.slow
def test_another_protocol_is_added_and_the_first_kept(trained: Trained) -> None:
    run = trained.runs()[0]
    before = _entries(run)
    ended = trained.run("evaluate", f"run={run}", "protocol=single,single_os8", "threads=1")
    assert ended.code == 0, ended.err
    after = _entries(run)
    assert after["single"] == before["single"]
    assert after["single_os8"]["protocol"] == {"output_stride": 8, "scales": [1.0], "flip": False}
    assert after["single_os8"]["images"] == 4
    assert [line.split(":")[0] for line in ended.out.splitlines() if "mIoU" in line] == ["single", "single_os8"]


@pytest.mark.slow
def test_what_is_measured_is_not_measured_again(trained: Trained) -> None:
    run = trained.runs()[1]
    before = (run / "results.json").stat().st_mtime_ns
    ended = trained.run("evaluate", f"run={run}", "protocol=single")
    assert ended.code == 0
    assert ended.heavy == []
    assert (run / "results.json").stat().st_mtime_ns == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argument", "words"),
    [("protocol=nope", ("nope", "single_os8")), ("checkpoint=first", ("'first'", "last or best"))],
)
def test_what_it_cannot_do_is_refused(trained: Trained, argument: str, words: tuple[str, ...]) -> None:
    ended = trained.run("evaluate", f"run={trained.runs()[0]}", argument)
    assert ended.code == 2
    for word in words:
        assert word in ended.errors[0]


def test_an_unfinished_run_is_refused_with_the_command_that_finishes_it(atrous: Run, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("{}")
    (tmp_path / "status.json").write_text('{"format": 1, "state": "stopped", "step": 3, "max_steps": 9}')
    (tmp_path / "run.json").write_text('{"format": 1, "command": "atrous-train seed=7"}')
    ended = atrous("evaluate", "run=.")
    assert ended.code == 2
    for word in ("stopped at step 3 of 9", "atrous-train seed=7"):
        assert word in ended.errors[0]
