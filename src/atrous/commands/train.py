"""atrous-train: one run, a sweep, or a table of the papers."""

import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from atrous.commands.app import run_app
from atrous.errors import ConfigError

if TYPE_CHECKING:
    from atrous.studies.jobs import Job


def task(config: DictConfig) -> float | None:
    """Train and measure the run that `config` describes, in a process tree of its own.

    Started by torchrun or by SLURM as several ranks, all of them train it together and the first one speaks.

    Returns:
        mIoU of the first protocol, 0 to 1, for Hydra's optimising sweepers; None where the run was stopped early, or
        where only a test server can tell.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from atrous.studies import jobs, ranks, together

    _refuse_tables(config)
    hydra = HydraConfig.get()
    is_of_sweep = hydra.mode == RunMode.MULTIRUN
    if is_of_sweep:
        _go_to(Path(hydra.runtime.cwd))
    place = ranks.ranks_of(os.environ)
    ranks.check_layout(place, nodes=config.trainer.nodes, devices=config.trainer.devices)
    overrides = list(OmegaConf.to_container(hydra.overrides.task) or [])
    job = jobs.prepare(config, [str(text) for text in overrides])
    speaks = place is None or place.rank == 0
    if speaks:
        print(f"run: {job.folder.path}", flush=True)  # noqa: T201
        for text in () if is_of_sweep else job.warnings:  # a sweep has said so for all of its jobs
            print(f"warning: {text}", file=sys.stderr, flush=True)  # noqa: T201
    if place is None or place.world_size == 1:
        outcome = jobs.run(job, capture=is_of_sweep)
    else:
        outcome = together.run(job, place, capture=is_of_sweep)
    if speaks:
        print(_in_words(job, outcome))  # noqa: T201
    return None if outcome == "stopped" else job.score()


def _refuse_tables(config: DictConfig) -> None:
    if config.experiment is not None:
        raise ConfigError(
            f"+experiment={config.experiment.table} is a table of {len(config.experiment.rows)} runs: add -m"
        )
    if config.scale is not None:
        raise ConfigError(f"scale={config.scale.name} is a size of tables: use it with -m +experiment=...")


def _go_to(folder: Path) -> None:
    """Be where the sweep was started: a worker of a cluster may begin elsewhere, and paths may be relative."""
    try:
        os.chdir(folder)
    except OSError as error:
        raise ConfigError(
            f"{folder}, where the sweep was started, cannot be entered on {socket.gethostname()} ({error.strerror}): "
            "start it from a folder that all machines share, with store= and data.root= on shared folders"
        ) from None


def _in_words(job: "Job", outcome: str) -> str:
    if outcome == "stopped":
        return f"stopped at step {job.folder.status().get('step', 0)}; the same command goes on from there"
    mark = "done before, nothing to train; " if outcome == "skipped" else ""
    return f"{mark}{job.outcome()} ({job.config['protocols'][0]})"


def main() -> None:
    """Entry point."""
    run_app(task, config_name="train")


if __name__ == "__main__":
    main()
