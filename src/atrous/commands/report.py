"""atrous-report: tables from what the run store holds, the site of all of them, and pictures; trains nothing."""

import sys
from pathlib import Path

from omegaconf import DictConfig, ListConfig, OmegaConf

from atrous.commands.app import run_app
from atrous.errors import ConfigError

_OF_THE_REPORT = ("output", "runs", "store", "subject", "sweep", "tflops")
SUBJECTS = ("table", "site", "plan", "complexity", "figure4", "diagram", "wandb")


def task(config: DictConfig) -> None:
    """Print a table and write it in every form; or write the site of all tables; or count, or draw."""
    _check_one_of_each()
    if config.subject not in SUBJECTS:
        raise ConfigError(f"subject={config.subject!r}: one of {', '.join(SUBJECTS)}")
    from atrous.files import check_writable

    check_writable(_folder(config))
    if config.subject == "table":
        _report_table(config)
    elif config.subject == "wandb":
        _publish(config)
    elif config.subject == "site":
        _write_site(config)
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


def _arguments() -> list[str]:
    """The overrides of the command line, those that are swept included, of which the config knows nothing."""
    from hydra.core.hydra_config import HydraConfig

    return [str(text) for text in OmegaConf.to_container(HydraConfig.get().overrides.task) or []]


def _check_one_of_each() -> None:
    """Refuse several values of what a report has one of: Hydra reads a comma as a sweep, as of a table's rows."""
    from atrous.studies.overrides import key_of, parse

    for override in parse(_arguments()):
        key = key_of(override)
        if key in _OF_THE_REPORT and override.is_sweep_override():
            one = f"one at a time; a name that holds a comma takes quotes, \"{key}='a,b'\""
            several = "several are a list, 'runs=[a,b]', of globs \"runs=['a/runs/*','b/runs/*']\""
            raise ConfigError(f"{override.input_line}: {several if key == 'runs' else one}")


def _report_table(config: DictConfig) -> None:
    from atrous.studies.command_line import sweep_of
    from atrous.studies.sweeping import load_sweep, report_sweep

    if sum(value is not None for value in (config.runs, config.sweep, config.experiment)) > 1:
        raise ConfigError("one report at a time: either +experiment=..., or sweep=..., or runs=...")
    if config.runs is not None:
        _report_runs(config)
        return
    if config.sweep is not None:
        sweep = load_sweep(Path(config.store), config.sweep)
    elif config.experiment is not None:
        sweep = sweep_of(config, _arguments())
    else:
        raise ConfigError(
            "which report? Give +experiment=deeplabv3/table1 scale=shapes, sweep=NAME, or runs='outputs/runs/NAME*', "
            "or site: all tables"
        )
    report_sweep(sweep, store=Path(config.store), output=config.output)


def _publish(config: DictConfig) -> None:
    from atrous.studies.command_line import sweep_of
    from atrous.studies.reports.results import collect
    from atrous.studies.schema import WandbConfig
    from atrous.studies.wandb_table import publish_table

    if config.experiment is None:
        raise ConfigError("which table goes to W&B? Give e.g. +experiment=deeplabv3/table1 scale=shapes")
    result = collect(sweep_of(config, _arguments()), store=Path(config.store))
    settings = config.logger.wandb or OmegaConf.structured(WandbConfig)
    folder = _folder(config) if config.output else _folder(config) / result.table.slug
    published = publish_table(
        result,
        project=settings.project,
        entity=settings.entity,
        mode=settings.mode,
        folder=folder,
        patience=settings.patience,
    )
    print(f"table: run {published.run_id} ({published.mode})\nworkspace: {published.workspace}")  # noqa: T201


def _report_runs(config: DictConfig) -> None:
    from atrous.studies.reports.report import write_report
    from atrous.studies.reports.runs import collect_runs
    from atrous.studies.sweeping import wide_console

    patterns = [str(entry) for entry in config.runs] if isinstance(config.runs, ListConfig) else [str(config.runs)]
    result = collect_runs(patterns)
    folder = _folder(config) if config.output else _folder(config) / result.table.slug
    write_report(result, folder, console=wide_console())


def _write_site(config: DictConfig) -> None:
    from atrous.progress import doing
    from atrous.studies.reports.site import write_site
    from atrous.studies.sweeping import wide_console
    from atrous.terminal import say

    console = wide_console()
    with doing("reading", console) as tell:
        page = write_site(Path(config.store), _folder(config), told=tell)
    say(console, f"report: {page}")


def _draw(config: DictConfig) -> None:
    from atrous.building import build_network
    from atrous.networks.dry_run import without_weights
    from atrous.studies.configuration import resolve
    from atrous.studies.figures import draw_diagram, draw_figure4

    if config.subject == "figure4":
        path = draw_figure4(_folder(config))
    else:
        with without_weights():
            network = build_network(resolve(config, needs_root=False), num_classes=21, pretrained=False)
        path = draw_diagram(network, _folder(config))
    print(f"picture: {path}")  # noqa: T201


def _folder(config: DictConfig) -> Path:
    """What `output=` names, or the folder of the subject; that of the tables has one for each."""
    if config.output:
        return Path(config.output)
    places = {"site": "report", "table": "reports", "wandb": "reports"}
    return Path(config.store) / places.get(config.subject, f"reports/{config.subject}")


def main() -> None:
    """Entry point; `atrous-report complexity` is short for `atrous-report subject=complexity`."""
    sys.argv[1:] = [f"subject={word}" if word in SUBJECTS else word for word in sys.argv[1:]]
    run_app(task, config_name="report", interrupted="the same command begins anew")


if __name__ == "__main__":
    main()
