"""The wheel: conf/ and experiments/ travel with it, and it runs outside of a checkout."""

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built from a checkout without a network."""
    for name in ("build", "hatchling"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: pip install -e '.[dev]'")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("atrous-*.whl")
    return path


def test_the_wheel_holds_the_packages_the_configs_and_the_tables(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, inside in (("src/atrous", "atrous"), ("src/hydra_plugins", "hydra_plugins")):
        files = {path.relative_to(ROOT / folder).as_posix() for path in (ROOT / folder).rglob("*.py")}
        assert {f"{inside}/{file}" for file in files} <= names
    for folder in ("conf", "experiments"):
        assert {f"atrous/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / folder).rglob("*.yaml")} <= names
    assert {"atrous/py.typed", "atrous/weights/zoo.yaml"} <= names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"atrous", "hydra_plugins"}


def test_the_wheel_has_its_commands(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
    text = archive.read(name).decode()
    for command in ("train", "evaluate", "report", "data", "predict", "export"):
        assert f"atrous-{command} = atrous.commands.{command}:main" in text


def test_an_unpacked_wheel_composes_tables_far_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    zipfile.ZipFile(wheel).extractall(site)
    elsewhere.mkdir()
    command = [sys.executable, "-m", "atrous.commands.train", "--cfg", "job", "+experiment=deeplabv3/table1"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(site)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    config = yaml.safe_load(done.stdout)
    assert config["experiment"]["table"] == "deeplabv3/table1"
    where = subprocess.run(
        [sys.executable, "-c", "import atrous.resources as r; print(r.conf_folder())"],
        capture_output=True,
        text=True,
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(site)},
        check=True,
    )
    assert where.stdout.strip() == str(site / "atrous" / "conf")
