"""Hydra on conf/, sweeps as a command line asks for them, and jobs that take milliseconds."""

import copy
import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig

from atrous import run_process
from atrous.resources import conf_folder
from atrous.run_store import RunFolder
from atrous.studies import jobs
from atrous.studies.command_line import sweep_of
from atrous.studies.configuration import resolve
from atrous.studies.identity import Identity
from atrous.studies.jobs import Job
from atrous.studies.schema import register
from atrous.studies.table import Sweep

FAKE_JOB = Path(__file__).parent / "fake_job.py"


@pytest.fixture
def hydra_app() -> Iterator[None]:
    """Hydra as a command has it while its task runs."""
    register()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
        yield


@pytest.fixture
def composed(hydra_app: None) -> Callable[..., DictConfig]:
    """The config of `atrous-train OVERRIDES`."""

    def compose_with(*overrides: str) -> DictConfig:
        stores = [text for text in overrides if text.startswith("store=")]  # each test has its own, for the same rows
        config = copy.deepcopy(_compose(tuple(text for text in overrides if text not in stores)))
        for text in stores:
            config.store = text.removeprefix("store=")
        return config

    return compose_with


@pytest.fixture(scope="session")
def _default_config() -> dict[str, Any]:
    register()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
        return dict(resolve(_compose(())))


@pytest.fixture
def changed(_default_config: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The default config with other values for some keys, by their dotted names."""

    def change(values: dict[str, Any]) -> dict[str, Any]:
        config = copy.deepcopy(_default_config)
        for name, value in values.items():
            *sections, key = name.split(".")
            node = config
            for section in sections:
                node[section] = node.get(section) or {}
                node = node[section]
            node[key] = value
        return config

    return change


@functools.cache
def _compose(overrides: tuple[str, ...]) -> DictConfig:
    """Hydra takes 0.2 s for each, and many tests start from the same."""
    return compose(config_name="train", overrides=list(overrides))


@pytest.fixture
def swept(hydra_app: None) -> Callable[..., tuple[DictConfig, Sweep]]:
    """The config and the sweep of `atrous-train -m OVERRIDES`."""

    def make(*overrides: str) -> tuple[DictConfig, Sweep]:
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        config = hydra.compose_config(
            config_name="train", overrides=list(overrides), run_mode=RunMode.MULTIRUN, from_shell=False
        )
        return config, sweep_of(config, overrides)

    return make


class FakeJobs:
    """Makes jobs whose program is fake_job.py, and reads what they logged."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.log_file, self._monkeypatch = folder, folder / "events.log", monkeypatch
        monkeypatch.setattr(run_process, "PROGRAM", (str(FAKE_JOB),))
        monkeypatch.setattr(jobs, "IMPORTS", ())
        monkeypatch.setenv("FAKE_LOG", str(self.log_file))

    def behave(self, **behaviours: str) -> None:
        """How rows end; see fake_job.py."""
        self._monkeypatch.setenv("FAKE_JOB", json.dumps(behaviours))

    def job(self, row: str, *, seed: int = 0, **trainer: int) -> Job:
        config: dict[str, Any] = {
            "trainer": {
                **{"devices": 1, "threads": 1, "accelerator": "cpu", "restarts": 0, "nodes": 1, "accumulate": 1},
                "stop_at_step": None,
                "activation_checkpointing": "maps",
                **trainer,
            },
            "recipe": {"max_steps": 2, "batch_size": 4, "crop_size": 65, "precision": "32-true"},
            "data": {"num_workers": 1, "val_batch_size": 1},
            "protocols": ["single"],
            "boundary": False,
            "submission": None,
            "output_stride": 16,
            "seed": seed,
            "table": None,
            "row": row,
        }
        name, key, family = (f"{what}-{row}" for what in ("net", "key", "family"))
        identity = Identity(name=name, key=key, family=family, seed=seed, former_family=family)
        return Job(config, identity, RunFolder(self.folder / "runs" / f"net-{row}" / f"seed{seed}"), (f"row={row}",))

    def events(self) -> list[tuple[str, float, int, str, str]]:
        """(start or end, time, process, row, CUDA_VISIBLE_DEVICES), in order of time."""
        lines = [line.split() for line in self.log_file.read_text().splitlines()] if self.log_file.exists() else []
        return sorted(((e, float(t), int(p), row, gpu) for e, t, p, row, gpu in lines), key=lambda event: event[1])


@pytest.fixture
def fake_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeJobs:
    """Jobs that take milliseconds."""
    return FakeJobs(tmp_path, monkeypatch)
