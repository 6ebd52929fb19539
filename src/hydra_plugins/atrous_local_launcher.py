"""hydra/launcher=local: a fresh process tree per job, k devices each, as many at once as fit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class LocalLauncherConf:
    """jobs: how many at once; null for as many as the GPUs, or the cores at trainer.threads each, allow."""

    _target_: str = "hydra_plugins.atrous_local_launcher.LocalLauncher"
    jobs: int | None = None


ConfigStore.instance().store(group="hydra/launcher", name="local", node=LocalLauncherConf, provider="atrous")


class LocalLauncher(Launcher):
    """Runs the jobs of a sweep on this machine; see atrous.studies.pool."""

    def __init__(self, jobs: int | None = None) -> None:
        self._jobs = jobs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what composing a job's config needs."""
        self._context, self._config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Check every job, then run them."""
        from atrous.studies.local import launch

        def compose(overrides: Sequence[str]) -> Any:
            return self._context.config_loader.load_sweep_config(self._config, list(overrides))

        return launch(job_overrides, compose, jobs_at_once=self._jobs, fail_fast=bool(self._config.fail_fast))
