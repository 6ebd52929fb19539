"""metrics.csv: appended to, and cut back to the checkpoint on resume."""

import csv
import errno
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atrous.files import NoSpaceError
from atrous.training.csv_log import COLUMNS, CsvLog

from ..conftest import ReadDamaged

HEAD = ",".join(COLUMNS).encode() + b"\r\n"
SOUND = HEAD + b"10,0.5,0.01,33.3,,,\r\n20,0.4,0.01,33.1,,,\r\n20,,,,0.25,0.5,1.23457e+06\r\n30,nan,1e-05,33,,,\r\n"


def _steps(path: Path) -> list[str]:
    with path.open(newline="") as stream:
        return [row["step"] for row in csv.DictReader(stream)]


def test_a_resumed_run_drops_the_lines_behind_its_checkpoint_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    log = CsvLog(path)
    for step in (10, 20, 30):
        log.log_metrics({"train/loss": 1 / step, "epoch": 0}, step)
    with path.open("a") as stream:
        stream.write("4")  # torn by a kill
    resumed = CsvLog(path, first_step=20)
    assert _steps(path) == ["10", "20"]
    resumed.log_metrics({"val/miou": 0.5}, 30)
    assert _steps(path) == ["10", "20", "30"]


def test_a_validation_that_is_made_again_has_one_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    log = CsvLog(path)
    log.log_metrics({"train/loss": 0.1}, 20)
    log.log_metrics({"val/miou": 0.5}, 20)
    resumed = CsvLog(path, first_step=20)
    resumed.log_metrics({"val/miou": 0.5}, 20)
    resumed.log_metrics({"train/loss": 0.1}, 30)
    resumed.log_metrics({"val/miou": 0.6}, 30)
    assert _steps(path) == ["20", "20", "30", "30"]


def test_metrics_without_a_column_leave_no_line(tmp_path: Path) -> None:
    log = CsvLog(tmp_path / "metrics.csv")
    log.log_metrics({"epoch": 0.0}, 1)
    assert _steps(tmp_path / "metrics.csv") == []


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (SOUND + b"\xff\xfe", ["10", "20", "20", "30"]),
        (SOUND + b"\0" * 4096, ["10", "20", "20", "30"]),
        (SOUND + "²,0.5,0.01,33.3,,,\r\n".encode(), ["10", "20", "20", "30"]),
        (SOUND + b"9" * 5000 + b",0.5,0.01,33.3,,,\r\n", ["10", "20", "20", "30"]),
        (SOUND.replace(b"step", b"stop"), ["10", "20", "20", "30"]),
        (SOUND.removeprefix(HEAD), ["10", "20", "20", "30"]),
        (SOUND.replace(b"10,0.5", b'10,"0.5'), ["20", "20", "30"]),
        (SOUND.replace(b"10,0.5", b"10,0\x005"), ["20", "20", "30"]),
        (SOUND.replace(b"10,0.5", b"1\x000,0.5"), ["20", "20", "30"]),
        (SOUND.replace(b"0.01,33.3", b"0.01"), ["20", "20", "30"]),
        (SOUND.replace(b"33.3,,,\r\n", b"33.3,,,"), ["20", "30"]),
        (b"\xff" * 200_000, []),
    ],
)
def test_a_damaged_file_is_kept_told_and_gone_on_with_from_its_sound_lines(
    tmp_path: Path, content: bytes, kept: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes(content)
    CsvLog(path, first_step=30).log_metrics({"train/loss": 0.1}, 40)
    assert _steps(path) == [*kept, "40"]
    assert (tmp_path / "metrics.csv.damaged-1").read_bytes() == content
    assert f"{path} was damaged: kept as metrics.csv.damaged-1" in capsys.readouterr().err
    CsvLog(path, first_step=40)
    assert len(list(tmp_path.iterdir())) == 2, "what was made anew is sound"


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (b"", []),
        (HEAD, []),
        (SOUND, ["10", "20", "20", "30"]),
        (SOUND + b"40,0.12,1e-0", ["10", "20", "20", "30"]),  # torn by a kill
        (SOUND.replace(b"\r\n", b"\n"), ["10", "20", "20", "30"]),  # saved by an editor
        (SOUND + b"\r\n", ["10", "20", "20", "30"]),
        (HEAD[:-2] + b",more\r\n10,0.5,,,,,,x\r\n", ["10"]),  # of another version
    ],
)
def test_what_a_kill_an_editor_or_another_version_leaves_is_no_damage(
    tmp_path: Path, content: bytes, kept: list[str]
) -> None:
    (tmp_path / "metrics.csv").write_bytes(content)
    CsvLog(tmp_path / "metrics.csv", first_step=30)
    assert _steps(tmp_path / "metrics.csv") == kept
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_a_full_disk_is_named_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = CsvLog(tmp_path / "metrics.csv")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(NoSpaceError, match=rf"no space left in {tmp_path}: metrics\.csv needs"):
        log.log_metrics({"train/loss": 0.1}, 10)


@given(st.data())
def test_any_damaged_file_is_opened_and_gone_on_with(
    tmp_path_factory: pytest.TempPathFactory, read_damaged: ReadDamaged, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "damaged-metrics"
    folder.mkdir(exist_ok=True)
    path, contents = folder / "metrics.csv", list[bytes]()

    def read(damaged: bytes) -> list[str]:
        contents.append(damaged)
        path.write_bytes(damaged)
        CsvLog(path, first_step=10**18).log_metrics({"train/loss": 0.1}, 40)
        return _steps(path)

    steps = read_damaged(data, SOUND, read)
    assert steps is not None, "it is never refused"
    assert steps[-1] == "40"
    assert all(int(step) >= 0 for step in steps)
    for copy in folder.glob("metrics.csv.damaged-*"):
        assert copy.read_bytes() == contents[0]
        copy.unlink()
