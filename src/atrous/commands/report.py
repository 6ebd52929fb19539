"""atrous-report: a table's report from what the run store holds; trains nothing."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from atrous.commands.app import run_app
from atrous.errors import ConfigError


def task(config: DictConfig) -> None:
    """Print the table and write Markdown, CSV and HTML."""
    from hydra.core.hydra_config import HydraConfig

    from atrous.studies.sweeping import load_sweep, report_sweep
    from atrous.studies.table import sweep_of

    arguments = [str(text) for text in OmegaConf.to_container(HydraConfig.get().overrides.task) or []]
    if config.sweep is not None:
        sweep = load_sweep(Path(config.store), config.sweep)
    elif config.experiment is not None:
        sweep = sweep_of(config, arguments)
    else:
        raise ConfigError("which report? Give +experiment=deeplabv3/table1 scale=shapes, or sweep=NAME")
    report_sweep(sweep, store=Path(config.store), output=config.output)


def main() -> None:
    """Entry point."""
    run_app(task, config_name="report")


if __name__ == "__main__":
    main()
