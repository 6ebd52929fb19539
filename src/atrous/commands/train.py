"""atrous-train: one run, a sweep, or a table of the papers."""

from omegaconf import DictConfig, OmegaConf

from atrous.commands.app import run_app
from atrous.errors import ConfigError


def task(config: DictConfig) -> float | None:
    """Train and measure the run that `config` describes, in a process tree of its own.

    Returns:
        mIoU of the first protocol, 0 to 1, for Hydra's optimising sweepers; None where the run was stopped early.
    """
    from hydra.core.hydra_config import HydraConfig

    from atrous.studies import jobs

    if config.experiment is not None:
        raise ConfigError(
            f"+experiment={config.experiment.table} is a table of {len(config.experiment.rows)} runs: add -m"
        )
    if config.scale is not None:
        raise ConfigError(f"scale={config.scale.name} is a size of tables: use it with -m +experiment=...")
    overrides = list(OmegaConf.to_container(HydraConfig.get().overrides.task) or [])
    job = jobs.prepare(config, [str(text) for text in overrides])
    print(f"run: {job.folder.path}", flush=True)  # noqa: T201
    outcome = jobs.run(job)
    if outcome == "stopped":
        print(f"stopped at step {job.folder.status()['step']}; the same command goes on from there")  # noqa: T201
        return None
    mark = "done before, nothing to train; " if outcome == "skipped" else ""
    print(f"{mark}mIoU {100 * job.score():.2f}% ({job.config['protocols'][0]})")  # noqa: T201
    return job.score()


def main() -> None:
    """Entry point."""
    run_app(task, config_name="train")


if __name__ == "__main__":
    main()
