"""What the command lines of the benchmarks refuse, and what of a run that fails or is interrupted stays."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from benchmarks.__main__ import BENCHMARKS, PAGE, QUICK_PAGE, main, run
from benchmarks.inference_ways import SINGLE
from benchmarks.section import Section
from benchmarks.turns import ROOT, BenchmarkError

from benchmarks import command, inference, loader, overhead, scaling


def _section(key: str) -> Section:
    return Section(key=key, title=key, text="", columns=("way", "s"), rows=[["ours", "1.00"]])


def _returns(key: str) -> Callable[..., Section]:
    return lambda *_, **__: _section(key)


def _fails(*_: Any, **__: Any) -> Section:
    raise BenchmarkError("the process was killed")


def _single_alone(task: str, *_: Any) -> Section:
    return _section("first") if task == SINGLE else _fails()


@pytest.fixture
def as_command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Gives this process the arguments of a benchmark."""
    return lambda *words: monkeypatch.setattr(sys, "argv", ["benchmark.py", *words])


@pytest.mark.parametrize(
    ("module", "parts"),
    [
        (inference, {"measured_peaks": lambda _: {}, "section_of": _single_alone}),
        (overhead, {"step_section": _returns("first"), "sweep_section": _fails}),
        (scaling, {"step_section": _returns("first"), "loader_section": _fails}),
    ],
)
def test_what_was_measured_stays_where_a_later_part_fails(
    module: Any,
    parts: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    as_command: Callable[..., None],
) -> None:
    for name, part in parts.items():
        monkeypatch.setattr(module, name, part)
    as_command("--out", str(tmp_path))
    with pytest.raises(SystemExit) as raised:
        command.run(module.main)
    assert raised.value.code == 1
    assert Section.read(tmp_path / "first.json").title == "first"


def test_what_failed_is_told_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="1"):
        command.run(_fails)  # type: ignore[arg-type]
    assert capsys.readouterr().err == "error: the process was killed\n"


@pytest.mark.parametrize("words", [("--out", "{file}"), ("--repeats", "0"), ("--steps", "0"), ("--size", "-3")])
def test_what_cannot_end_well_is_refused_before_it_begins(
    words: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_command: Callable[..., None]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(inference, "measured_peaks", _fails)
    as_command(words[0], words[1].format(file=tmp_path / "file"))
    with pytest.raises(SystemExit) as raised:
        inference.main()
    assert raised.value.code == 2


def test_a_page_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="2"):
        main(["--page-only", "--out", str(tmp_path / "file")])


def test_too_few_images_for_the_workers_are_refused(
    as_command: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    as_command("--root", "none", "--workers", "1", "16")
    with pytest.raises(SystemExit, match="2"):
        loader.main()
    assert "--images=240: 16 workers want 272" in capsys.readouterr().err


def test_figures_are_of_the_commit_that_their_measurement_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_command: Callable[..., None]
) -> None:
    monkeypatch.setattr("benchmarks.machine_facts._commit", lambda: "before")

    def measure(*_: Any, **__: Any) -> Section:
        monkeypatch.setattr("benchmarks.machine_facts._commit", lambda: "after")
        return _section("first")

    monkeypatch.setattr(overhead, "step_section", measure)
    monkeypatch.setattr(overhead, "sweep_section", measure)
    as_command("--out", str(tmp_path))
    overhead.main()
    assert " at before with `python -m benchmarks.benchmark --out" in Section.read(tmp_path / "first.json").origin


def test_figures_of_a_quick_run_say_so_wherever_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_command: Callable[..., None]
) -> None:
    asked: list[list[str]] = []

    def ask(words: list[str], **_: Any) -> "subprocess.CompletedProcess[str]":
        asked.append(words)
        return subprocess.CompletedProcess(words, 0)

    with monkeypatch.context() as patches:
        patches.setattr(subprocess, "run", ask)
        _overhead(tmp_path)
    monkeypatch.setattr(overhead, "step_section", _returns("trainer_overhead"))
    monkeypatch.setattr(overhead, "sweep_section", _returns("sweep_overhead"))
    as_command(*asked[0][asked[0].index("benchmarks.overhead") + 1 :], "--out", str(tmp_path))
    overhead.main()
    main(["--page-only", "--out", str(tmp_path)])
    assert (tmp_path / "index.md").read_text().count("- A quick run") == 2


def _overhead(out: Path) -> None:
    (benchmark,) = (entry for entry in BENCHMARKS if entry.name == "overhead")
    run(benchmark, quick=True, data="", out=out)


def test_a_page_made_elsewhere_keeps_the_machine_of_the_last_run(tmp_path: Path) -> None:
    _section("evaluation").write(tmp_path)
    (tmp_path / "machine.json").write_text(json.dumps({"cores": "640"}))
    for words in (["--page-only"], ["--only", "loader"]):
        assert main([*words, "--out", str(tmp_path)]) == 0
        assert json.loads((tmp_path / "machine.json").read_text()) == {"cores": "640"}
        assert "| cores | 640 |" in (tmp_path / "index.md").read_text()


def test_an_interrupted_run_leaves_the_page_of_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        _section("evaluation").write(tmp_path)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "run", interrupted)
    monkeypatch.setattr("benchmarks.__main__.machine_facts", lambda: {"cores": "2"})
    assert main(["--only", "evaluation", "overhead", "--out", str(tmp_path)]) == 130
    text = (tmp_path / "index.md").read_text()
    assert "## evaluation" in text
    assert text.count("was interrupted") == 2


def _lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="Linux ends processes with their parents")
def test_a_measurement_ends_with_the_process_that_asked_for_it(tmp_path: Path) -> None:
    (tmp_path / "sleeper.py").write_text(
        f"import os, time\nfrom pathlib import Path\nPath({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\n"
        "time.sleep(120)\n"
    )
    paths = os.pathsep.join([str(tmp_path), str(ROOT), str(ROOT / "src")])
    program = "from benchmarks.turns import in_process; in_process('sleeper', {})"
    asking = subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": paths}, cwd=ROOT)
    deadline = time.monotonic() + 60
    while not (tmp_path / "pid").is_file() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    sleeper = int((tmp_path / "pid").read_text())
    asking.kill()
    asking.wait()
    try:
        while _lives(sleeper):
            assert time.monotonic() < deadline, "it goes on without anyone to tell"
            time.sleep(0.05)
    finally:
        if _lives(sleeper):
            os.kill(sleeper, signal.SIGKILL)


def test_a_quick_run_leaves_the_figures_that_can_be_quoted_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, bool]] = []

    def measure(benchmark: Any, *, quick: bool, out: Path, **_: Any) -> int:
        _section(benchmark.keys[0]).write(out)
        asked.append((out.name, quick))
        return 0

    monkeypatch.setattr("benchmarks.__main__.run", measure)
    monkeypatch.setattr("benchmarks.__main__.PAGE", tmp_path / "page")
    monkeypatch.setattr("benchmarks.__main__.QUICK_PAGE", tmp_path / "quick")
    main(["--only", "evaluation"])
    page = (tmp_path / "page" / "index.md").read_bytes()
    main(["--only", "overhead", "--quick"])
    main(["--only", "overhead", "--quick", "--out", str(tmp_path / "given")])
    assert asked == [("page", False), ("quick", True), ("given", True)]
    assert (tmp_path / "page" / "index.md").read_bytes() == page
    assert sorted(file.name for file in (tmp_path / "quick").iterdir()) == [
        "index.md",
        "machine.json",
        "trainer_overhead.json",
    ]


def test_a_quick_run_goes_where_git_does_not_look() -> None:
    assert QUICK_PAGE.relative_to(ROOT).parts[0] == "outputs"
    assert QUICK_PAGE != PAGE == ROOT / "docs" / "benchmarks"
