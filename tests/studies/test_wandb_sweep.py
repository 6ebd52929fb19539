"""conf/wandb_sweep.yaml: what W&B's agent makes of it is a command line that atrous-train takes."""

import itertools
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

import pytest
import yaml
from hydra.errors import OverrideParseException
from omegaconf import DictConfig

from atrous.resources import conf_folder
from atrous.studies.checks import check
from atrous.studies.configuration import resolve

pytestmark = pytest.mark.no_cover  # what it runs is counted in other tests, in half the time


def _agents() -> Any:
    """What W&B's agent makes command lines with, which takes seconds to import."""
    return pytest.importorskip("wandb.sdk.launch.sweeps.utils", reason="this version of W&B keeps its agent elsewhere")


def _sweep() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((conf_folder() / "wandb_sweep.yaml").read_text())
    return content


def _points() -> list[dict[str, Any]]:
    """The grid, as W&B's server hands it to agents."""
    parameters = _sweep()["parameters"]
    grid = itertools.product(*(parameters[name]["values"] for name in parameters))
    return [dict(zip(parameters, values, strict=True)) for values in grid]


def _expanded(point: dict[str, Any]) -> list[str]:
    """The command of one run, as wandb_agent.Agent._command_run puts it together."""
    sweep = _sweep()
    words: list[str] = []
    arguments = {"args": {name: {"value": value} for name, value in point.items()}}
    macros = _agents().create_sweep_command_args(arguments)
    macros |= {"program": [sweep["program"]], "interpreter": ["python"], "env": ["/usr/bin/env"]}
    for word in _agents().create_sweep_command(sweep["command"]):
        is_macro = str(word).startswith("${") and str(word).endswith("}")
        words += macros[word[2:-1]] if is_macro else [str(word)]
    return words


def test_points_compose_to_a_run_with_its_values(composed: Callable[..., DictConfig]) -> None:
    points = _points()
    assert len(points) == 6
    for point in (points[0], points[-1]):  # which differ in every key
        assert all(points[0][key] != points[-1][key] for key in point)
        env, program, *overrides = _expanded(point)
        assert (env, program) == ("/usr/bin/env", "atrous-train")
        plain = resolve(composed(*overrides))
        check(plain)
        assert plain["recipe"]["optimizer"]["lr"] == point["recipe.optimizer.lr"]
        assert plain["output_stride"] == point["output_stride"]
        assert plain["logger"]["wandb"]["mode"] == "online"


def test_the_program_is_a_command_of_ours() -> None:
    commands = {entry.name: entry.value for entry in entry_points(group="console_scripts")}
    assert commands[_sweep()["program"]] == "atrous.commands.train:main"


def test_hydra_refuses_the_agents_default_command(composed: Callable[..., DictConfig]) -> None:
    arguments = _agents().create_sweep_command_args({"args": {"output_stride": {"value": 8}}})["args"]
    with pytest.raises(OverrideParseException):
        composed(*arguments)
