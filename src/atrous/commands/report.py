"""atrous-report: a table's report from what the run store holds, and pictures of networks; trains nothing."""

import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from atrous.commands.app import run_app
from atrous.errors import ConfigError

SUBJECTS = ("table", "plan", "complexity", "figure4", "diagram")


def task(config: DictConfig) -> None:
    """Print the table and write Markdown, CSV and HTML; or count, or draw."""
    if config.subject not in SUBJECTS:
        raise ConfigError(f"subject={config.subject!r}: one of {', '.join(SUBJECTS)}")
    if config.subject == "table":
        _report_table(config)
    elif config.subject == "plan":
        from atrous.studies.plan import write_plan
        from atrous.studies.sweeping import wide_console

        scale = config.scale.name if config.scale is not None else "paper"
        write_plan(_folder(config), scale=scale, tflops=config.tflops, console=wide_console())
    elif config.subject == "complexity":
        from atrous.studies.complexity import write_complexity
        from atrous.studies.sweeping import wide_console

        write_complexity(_folder(config), console=wide_console())
    else:
        _draw(config)


def _report_table(config: DictConfig) -> None:
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


def _draw(config: DictConfig) -> None:
    from atrous.building import build_network
    from atrous.networks.dry_run import without_weights
    from atrous.studies.configuration import resolve
    from atrous.studies.figures import draw_diagram, draw_figure4

    if config.subject == "figure4":
        path = draw_figure4(_folder(config))
    else:
        with without_weights():
            network = build_network(resolve(config, needs_root=False), num_classes=21)
        path = draw_diagram(network, _folder(config))
    print(f"picture: {path}")  # noqa: T201


def _folder(config: DictConfig) -> Path:
    return Path(config.output) if config.output else Path(config.store) / "reports" / config.subject


def main() -> None:
    """Entry point; `atrous-report complexity` is short for `atrous-report subject=complexity`."""
    sys.argv[1:] = [f"subject={word}" if word in SUBJECTS else word for word in sys.argv[1:]]
    run_app(task, config_name="report")


if __name__ == "__main__":
    main()
