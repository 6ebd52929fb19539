"""The rules of the house: which way imports point, what `import atrous` costs, how long files and functions are."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src"
PACKAGE = SOURCE / "atrous"
FILES = sorted(SOURCE.rglob("*.py"))
HEAVY = {"torch", "lightning", "hydra", "omegaconf", "wandb", "albumentations", "matplotlib", "cv2"}


def _imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _violations(room: str, forbidden: set[str], *, except_for: tuple[str, ...] = ()) -> list[str]:
    found = []
    for path in sorted((PACKAGE / room).rglob("*.py")):
        if path.name not in except_for:
            bad = sorted(name for name in _imports(path) if any(f"{name}.".startswith(f"{top}.") for top in forbidden))
            found += [f"{room}/{path.name} imports {name}" for name in bad]
    return found


FRAMEWORKS = {"lightning", "pytorch_lightning", "hydra", "omegaconf", "wandb"}
ABOVE = {"atrous.training", "atrous.studies", "atrous.commands", "hydra_plugins"}


@pytest.mark.parametrize("room", ["networks", "weights", "data", "evaluation", "prediction"])
def test_the_core_knows_no_framework_and_nothing_above_it(room: str) -> None:
    allowed = ("datamodule.py",) if room == "data" else ()
    assert _violations(room, FRAMEWORKS | ABOVE, except_for=allowed) == []


def test_the_data_module_is_lightnings_only_door_into_the_data() -> None:
    assert "lightning" in {name.split(".")[0] for name in _imports(PACKAGE / "data" / "datamodule.py")}
    forbidden = (FRAMEWORKS | ABOVE) - {"lightning"}
    assert not [name for name in _imports(PACKAGE / "data" / "datamodule.py") if name.split(".")[0] in forbidden]


def test_networks_stand_alone() -> None:
    others = {f"atrous.{room}" for room in ("data", "evaluation", "weights", "run_store", "building")}
    assert _violations("networks", others) == []


def test_training_knows_no_studies_and_no_commands() -> None:
    assert _violations("training", {"atrous.studies", "atrous.commands", "hydra_plugins", "hydra", "omegaconf"}) == []


def test_studies_meet_training_only_in_the_run_store() -> None:
    heavy = {"torch", "lightning", "wandb", "albumentations", "atrous.training", "atrous.commands"}
    assert _violations("studies", heavy) == []


@pytest.mark.parametrize(
    ("module", "light_except"),
    [
        ("atrous", set()),
        ("atrous.networks.output_stride", set()),
        ("atrous.data.spec", set()),
        ("atrous.evaluation.protocol", set()),
        ("atrous.run_store", set()),
        ("atrous.html", set()),
        ("atrous.svg", set()),
        ("atrous.commands.train", {"hydra", "omegaconf"}),
        ("atrous.commands.evaluate", {"hydra", "omegaconf"}),
        ("atrous.hardware", set()),
        ("atrous.prediction", set()),
        ("atrous.commands.data", {"hydra", "omegaconf"}),
        ("atrous.commands.predict", {"hydra", "omegaconf"}),
        ("atrous.commands.export", {"hydra", "omegaconf"}),
        ("atrous.weights.zoo", set()),
        ("atrous.weights.download", set()),
        ("atrous.weights.tf_checkpoint", set()),
        ("atrous.boards.board", set()),
        ("atrous.commands.wandb_sync", set()),
        ("atrous.studies.reports.site", {"hydra", "omegaconf"}),
        ("atrous.studies.local", {"hydra", "omegaconf"}),
        ("atrous.studies.sweeping", {"hydra", "omegaconf"}),
    ],
)
def test_importing_costs_no_heavy_library(module: str, light_except: set[str]) -> None:
    script = f"import sys, {module}; print(*({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ)
    assert set(done.stdout.split()) <= light_except


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 220
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            assert node.end_lineno - node.lineno + 1 <= 60, f"{node.name} is too long"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_nothing_mutable_lives_in_a_module(path: Path) -> None:
    for node in ast.parse(path.read_text()).body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or not isinstance(
            node.value, ast.List | ast.Dict | ast.Set
        ):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for name in map(ast.unparse, targets):
            assert name == "__all__" or name.lstrip("_").isupper(), f"{name} is a variable, not a constant"
