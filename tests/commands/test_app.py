"""What the console scripts share: each says what is true of it where someone interrupts it."""

import os
import signal
import time
from importlib import import_module
from pathlib import Path

import pytest
from omegaconf import DictConfig
from PIL import Image

from .conftest import Run


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("train", "the same command goes on where it stopped"),
        ("predict", "with resume=true the same command leaves out what is finished"),
        ("evaluate", "nothing of this pass over the images is kept"),
        ("export", "formats that are finished stay"),
        ("report", "the same command begins anew"),
        ("data prepare voc", "the same command goes on where it stopped"),
        ("data check voc", "nothing of it is kept: the same command begins anew"),
        ("data show voc", "nothing of it is kept: the same command begins anew"),
    ],
)
def test_an_interrupted_command_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, words: str
) -> None:
    def interrupt(config: DictConfig) -> None:
        raise KeyboardInterrupt

    name, *words_of_it = name.split()
    module = import_module(f"atrous.commands.{name}")
    monkeypatch.setattr(module, "task", interrupt)
    monkeypatch.setattr("sys.argv", [f"atrous-{name}", *words_of_it])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == 130
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: interrupted; ")
    assert words in line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(("name", "work"), [("predict", "_run"), ("export", "_export")])
def test_a_command_that_is_asked_to_end_while_it_writes_ends_as_by_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, work: str, number: signal.Signals
) -> None:
    module, done = import_module(f"atrous.commands.{name}"), []

    def ask(*_: object) -> None:
        try:
            os.kill(os.getpid(), number)
            time.sleep(60)
        finally:
            done.append("tidied up")

    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    arguments = {"predict": ["model=x", f"input={tmp_path / 'a.png'}"], "export": ["run=x", "format=pt2"]}
    monkeypatch.setattr(module, work, ask)
    monkeypatch.setattr("sys.argv", [f"atrous-{name}", *arguments[name], f"output={tmp_path / 'out'}"])
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert (ended.value.code, done) == (128 + number, ["tidied up"])
    assert signal.getsignal(number) is before


def test_what_may_not_be_read_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(config: DictConfig) -> None:
        raise PermissionError(13, "Permission denied", "runs/a/seed0/config.yaml")

    module = import_module("atrous.commands.evaluate")
    monkeypatch.setattr(module, "task", refuse)
    monkeypatch.setattr("sys.argv", ["atrous-evaluate"])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == "error: runs/a/seed0/config.yaml: Permission denied\n"


@pytest.mark.parametrize(("name", "key"), [("train", "data=voc data.root"), ("evaluate", "run"), ("report", "runs")])
def test_a_name_that_no_file_can_have_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, key: str
) -> None:
    long = "x" * 300
    monkeypatch.setattr("sys.argv", [f"atrous-{name}", *f"{key}={long}".split()])
    with pytest.raises(SystemExit) as ended:
        import_module(f"atrous.commands.{name}").main()
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {long}")
    assert line.endswith(": File name too long")


def test_a_table_that_is_no_yaml_is_one_line_with_its_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "experiment" / "t.yaml"
    path.parent.mkdir()
    path.write_text("rows:\n  - {name: a}\n - {name: b}\n")
    monkeypatch.setattr("sys.argv", ["atrous-train", "-m", f"hydra.searchpath=[file://{tmp_path}]", "+experiment=t"])
    with pytest.raises(SystemExit) as ended:
        import_module("atrous.commands.train").main()
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: a config file is no YAML: ")
    assert f'"{path}", line 3' in line


@pytest.mark.parametrize("name", ["train", "report"])
def test_a_key_of_a_logger_that_was_not_chosen_says_what_chooses_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.setattr("sys.argv", [f"atrous-{name}", "logger.wandb.mode=offline"])
    with pytest.raises(SystemExit) as ended:
        import_module(f"atrous.commands.{name}").main()
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "logger.wandb.mode=offline" in line
    assert line.endswith("there is no logger.wandb until logger=wandb adds it")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("evaluate", ("run=a",)),
        ("predict", ("model=a", "input=b", "output=c")),
        ("export", ("run=a", "output=c")),
        ("data", ("check", "shapes")),
    ],
)
def test_a_command_without_sweeps_refuses_m_and_leaves_nothing(
    atrous: Run, tmp_path: Path, name: str, arguments: tuple[str, ...]
) -> None:
    ended = atrous(name, *arguments, "-m")
    assert (ended.code, ended.errors) == (
        2,
        ["error: -m starts a sweep of trainings or a table (atrous-train -m): leave it out here"],
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["evaluate", "predict", "export", "data"])
def test_several_values_are_not_sent_to_m_where_there_is_none(atrous: Run, name: str) -> None:
    key = {"evaluate": "threads", "predict": "threads", "export": "side", "data": "seed"}[name]
    ended = atrous(name, f"{key}=1,2")
    assert ended.errors == [f"error: {key}=1,2 is several values: write a list as '{key}=[1,2]'"]
