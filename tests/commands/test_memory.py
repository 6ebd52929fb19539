"""A full memory ends atrous-evaluate and atrous-export with one line that names the key to lower."""

from pathlib import Path

import pytest

from atrous.commands import evaluate, export
from atrous.commands.memory import memory_watched
from atrous.errors import ConfigError


def _full(*_: object) -> None:
    raise RuntimeError("CUDA error. DefaultCPUAllocator: can't allocate memory. And so on")


def test_evaluate_names_the_batch_size_and_the_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["weights=mobilenetv2_coco_voc_trainaug", "data=voc", "data.root=.", "batch_size=6", "accelerator=cpu"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evaluate, "_require_writable", _full)
    monkeypatch.setattr("sys.argv", ["atrous-evaluate", *arguments])
    with pytest.raises(SystemExit) as ended:
        evaluate.main()
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: out of memory (CUDA error. DefaultCPUAllocator: can't allocate memory); ")
    assert "batch_size=3 (now 6) or a protocol with fewer scales or with tiles, such as tiles_os16 (now single)" in line


def test_export_names_the_side(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(export, "_network", _full)
    monkeypatch.setattr("sys.argv", ["atrous-export", "run=.", "output=.", "name=nothing_there", "side=513"])
    with pytest.raises(SystemExit) as ended:
        export.main()
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("check with smaller images: side=256 (now 513)")


@pytest.mark.parametrize("error", [ConfigError("no"), RuntimeError("no"), KeyboardInterrupt()])
def test_other_errors_stay_what_they_are(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, memory_watched(lambda: ""):
        raise error
    assert caught.value is error
