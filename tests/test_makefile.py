"""The Makefile's words: what Tab offers, and what `make -n` would run."""

import shutil
import subprocess
from pathlib import Path

import pytest

from atrous.resources import conf_folder, experiments_folder

ROOT = Path(__file__).resolve().parents[1]


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


@pytest.mark.skipif(shutil.which("make") is None, reason="make is absent")
def test_reproduce_all_names_every_table_and_figure() -> None:
    done = subprocess.run(
        ["make", "-n", "-o", ".venv/.installed", "reproduce-all"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    (loop,) = [line for line in done.stdout.splitlines() if "for table in" in line]
    named = loop.split("for table in ")[1].split(";")[0].split()
    assert sorted(named) == sorted(
        path.relative_to(experiments_folder()).with_suffix("").as_posix() for path in _experiments()
    )
