"""hydra/sweeper=study: rows x seeds of a table, or every combination of swept keys, into the run store.

hydra/sweeper=whole: the task once, whatever is swept; atrous-report takes the sweep's own command line with it.
hydra/sweeper=refused: of commands that have no sweeps.
"""

from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from atrous.errors import ConfigError


@dataclass
class StudySweeperConf:
    """No settings."""

    _target_: str = "hydra_plugins.atrous_study_sweeper.StudySweeper"


ConfigStore.instance().store(group="hydra/sweeper", name="study", node=StudySweeperConf, provider="atrous")


@dataclass
class WholeSweeperConf:
    """No settings."""

    _target_: str = "hydra_plugins.atrous_study_sweeper.WholeSweeper"


ConfigStore.instance().store(group="hydra/sweeper", name="whole", node=WholeSweeperConf, provider="atrous")


@dataclass
class RefusedSweeperConf:
    """No settings."""

    _target_: str = "hydra_plugins.atrous_study_sweeper.RefusedSweeper"


ConfigStore.instance().store(group="hydra/sweeper", name="refused", node=RefusedSweeperConf, provider="atrous")


class StudySweeper(Sweeper):
    """Turns a command line into jobs for any launcher, then reports; see atrous.studies.sweeping."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Build the launcher."""
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run what is missing and show the table."""
        from atrous.studies.sweeping import run_sweep

        assert self.config is not None
        assert self.launcher is not None
        return run_sweep(self.config, arguments, self.launcher)


class WholeSweeper(Sweeper):
    """Calls the task once and leaves it to read the swept values from Hydra's overrides."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep the task."""
        self.config, self._task = config, task_function

    def sweep(self, arguments: list[str]) -> Any:
        """Call the task."""
        assert self.config is not None
        HydraConfig.instance().set_config(self.config)
        return self._task(self.config)


class RefusedSweeper(Sweeper):
    """Refuses -m before a folder is made, which Hydra's own sweeper would leave."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Nothing is needed."""

    def sweep(self, arguments: list[str]) -> Any:
        """Refuse.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("-m starts a sweep of trainings or a table (atrous-train -m): leave it out here")
