"""The Makefile's words: what Tab offers, and what `make -n` would run."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from atrous.resources import conf_folder, experiments_folder
from atrous.studies.overrides import key_of, parse, values_of

ROOT = Path(__file__).resolve().parents[1]

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is absent")


def _offered(line: str) -> list[str]:
    """What Tab offers behind `line`, whose words end at blanks and around =, as readline has them."""
    words = " ".join(line.replace("=", " = ").split(" ")).split()
    if line.endswith((" ", "=")) and not line.endswith("="):
        words.append("")
    listed = " ".join(f"'{word}'" for word in words)
    script = f"""
source Makefile.completion
COMP_WORDS=({listed}); COMP_CWORD={len(words) - 1}
_atrous_make
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is absent")
def test_tab_completes_tables_figures_scales_and_targets() -> None:
    tables = {path.relative_to(experiments_folder()).with_suffix("").as_posix() for path in _experiments()}
    assert set(_offered("make reproduce-table TABLE=")) == tables
    assert _offered("make reproduce-table TABLE=deeplabv3plus/table7") == [
        "deeplabv3plus/table7a",
        "deeplabv3plus/table7b",
    ]
    assert set(_offered("make reproduce-figure FIGURE=")) == {name for name in tables if "/figure" in name}
    assert set(_offered("make plan SCALE=")) == {path.stem for path in (conf_folder() / "scale").glob("*.yaml")}
    assert _offered("make reproduce-f") == ["reproduce-figure"]


def _experiments() -> list[Path]:
    return list(experiments_folder().rglob("*.yaml"))


@needs_make
def test_reproduce_all_names_every_table_and_figure() -> None:
    done = subprocess.run(
        ["make", "-n", "-o", ".venv/.installed", "reproduce-all"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    (loop,) = [line for line in done.stdout.splitlines() if "for table in" in line]
    named = loop.split("for table in ")[1].split(";")[0].split()
    assert sorted(named) == sorted(
        path.relative_to(experiments_folder()).with_suffix("").as_posix() for path in _experiments()
    )


def _would_run(*arguments: str, **environment: str) -> list[list[str]]:
    """The words of each command that make would run."""
    done = _make("-n", *arguments, **environment)
    assert done.returncode == 0, done.stderr
    return [shlex.split(line) for line in done.stdout.splitlines()]


def _make(*arguments: str, venv: str = ".venv", **environment: str) -> "subprocess.CompletedProcess[str]":
    """Make, with the project installed as far as it can tell."""
    return subprocess.run(
        ["make", "-o", f"{venv}/.installed", *arguments, f"VENV={venv}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**_without_make(), **environment},
    )


def _without_make() -> dict[str, str]:
    """The environment without what this file sets, and without a make that runs the tests."""
    return {
        key: text for key, text in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "ARGS", "SCALE", "SEEDS")
    }


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """Commands that note how they were called, and end as the file `train` or `report` beside them says."""
    (tmp_path / "bin").mkdir()
    for name in ("train", "report"):
        command = tmp_path / "bin" / f"atrous-{name}"
        command.write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/calls\n. {tmp_path}/{name}\n')
        command.chmod(0o755)
        (tmp_path / name).write_text("exit 0\n")
    return tmp_path


@needs_make
@pytest.mark.parametrize("status", [129, 130, 143])
def test_reproduce_all_ends_where_a_table_was_interrupted(venv: Path, status: int) -> None:
    (venv / "train").write_text(f"exit {status}\n")
    assert _make("reproduce-all", venv=str(venv)).returncode != 0
    assert len((venv / "calls").read_text().splitlines()) == 1


@needs_make
def test_reproduce_all_goes_on_after_a_table_that_failed_and_names_it(venv: Path) -> None:
    (venv / "train").write_text('case "$*" in *deeplabv3/table2*) exit 1;; esac\n')
    done = _make("reproduce-all", venv=str(venv))
    assert done.returncode != 0
    assert "error: without a complete result: deeplabv3/table2\n" in done.stdout
    *trained, last = (venv / "calls").read_text().splitlines()
    assert (len(trained), last) == (len(_experiments()), "report site")


@needs_make
def test_reproduce_all_fails_where_its_report_does(venv: Path) -> None:
    assert _make("reproduce-all", venv=str(venv)).returncode == 0
    (venv / "report").write_text("exit 1\n")
    assert _make("reproduce-all", venv=str(venv)).returncode != 0


@needs_make
@pytest.mark.parametrize(("given", "seeds"), [((), ["0"]), (("SEEDS=1",), ["0"]), (("SEEDS=3",), ["0", "1", "2"])])
@pytest.mark.parametrize("target", ["reproduce-table", "reproduce-figure"])
def test_seeds_are_counted_from_0_as_hydra_reads_them(target: str, given: tuple[str, ...], seeds: list[str]) -> None:
    ((_, *overrides),) = _would_run(target, *given)
    (seed,) = [override for override in parse(overrides[1:]) if key_of(override) == "seed"]
    assert values_of(seed, default=None) == seeds


@needs_make
@pytest.mark.parametrize("seeds", ["0", "-1", "1.5", "many", "", "0,1", "1 2"])
def test_seeds_that_are_no_number_of_seeds_are_refused_before_anything_runs(seeds: str, venv: Path) -> None:
    done = _make("reproduce-all", f"SEEDS={seeds}", venv=str(venv))
    assert (done.returncode, (venv / "calls").exists()) == (2, False)
    assert f"SEEDS={seeds} must be a whole number of at least 1" in done.stderr
    assert _make("-n", "report", f"SEEDS={seeds}").returncode == 0


@needs_make
def test_the_plan_takes_a_scale_from_wherever_it_is_given() -> None:
    assert _would_run("plan")[0][-1] == "scale=paper"
    assert _would_run("plan", "SCALE=smoke")[0][-1] == "scale=smoke"
    assert _would_run("plan", SCALE="smoke")[0][-1] == "scale=smoke"


@needs_make
@pytest.mark.parametrize(
    ("target", "word"),
    [("check-data", "data.root=/my data"), ("bench-data", "/my data"), ("bench-memory", "/my data")],
)
def test_a_data_folder_may_have_a_blank_in_its_name(target: str, word: str) -> None:
    assert word in _would_run("-o", ".venv-bench/.installed", target, "DATA=/my data")[-1]


@needs_make
def test_a_store_may_have_a_blank_in_its_name() -> None:
    assert "/my store" in _would_run("wandb-sync", "STORE=/my store")[0]
