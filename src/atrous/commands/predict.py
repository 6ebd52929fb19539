"""atrous-predict: what is where in images and videos, by any checkpoint."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from atrous.commands.app import run_app
from atrous.commands.words import as_list, with_path_quoted
from atrous.errors import ConfigError, DataError
from atrous.hardware import check_threads
from atrous.processes import Interrupts

if TYPE_CHECKING:
    from pathlib import Path

    from atrous.evaluation.protocol import Protocol
    from atrous.prediction.inputs import Job

_INTERRUPTED = "with resume=true the same command leaves out what is finished"


@dataclass
class PredictConfig:
    """What is predicted by which checkpoint."""

    model_path: str = MISSING
    input: str = MISSING
    output: str = MISSING
    save: list[str] = field(default_factory=list)
    protocol_name: str = "single"
    batch_size: int = 4
    checkpoint: str = "last"
    preset: str | None = None
    precision: str = "auto"
    device: str = "auto"
    threads: int = 0
    overwrite: bool = False
    resume: bool = False
    progress: bool = True


class UnusableInputError(DataError):
    """Some inputs could not be used; the others are done."""

    exit_code = 1


def task(config: DictConfig) -> None:
    """Predict all that can be read; list what cannot."""
    from atrous.evaluation.protocol import load_protocol
    from atrous.prediction.inputs import plan
    from atrous.studies.configuration import resolve

    for key, name in (("model_path", "model"), ("input", "input"), ("output", "output")):
        if OmegaConf.is_missing(config, key) or config[key] == "":
            raise ConfigError(f"{name} has no value: give one as {name}=VALUE")
    settings = {**resolve(config), "output": config.output}
    if settings["batch_size"] < 1:
        raise ConfigError(f"batch_size={settings['batch_size']}: at least 1")
    check_threads(settings["threads"])
    protocol = load_protocol(settings["protocol_name"])
    if protocol.tile is not None and "probabilities" in settings["save"]:
        raise ConfigError(f"save=probabilities: none are kept of tiles; protocol={settings['protocol_name']} has them")
    options = {key: settings[key] for key in ("save", "overwrite", "resume")}
    jobs = plan(settings["input"], settings["output"], say=lambda note: print(f"note: {note}"), **options)  # noqa: T201
    if not jobs:
        print(f"all files are there already: {settings['output']}")  # noqa: T201
        return
    with Interrupts():
        broken = _run(settings, jobs, protocol)
    done = len(jobs) - len(broken)
    print(f"{done} of {len(jobs)} {'input' if len(jobs) == 1 else 'inputs'}: {settings['output']}")  # noqa: T201
    if broken:
        lines = [f"{len(broken)} of {len(jobs)} inputs could not be used:", *(f"  {text}" for text in broken.values())]
        raise UnusableInputError("\n".join(lines))


def _run(settings: dict[str, Any], jobs: Sequence[Job], protocol: Protocol) -> dict[Path, str]:
    import torch

    from atrous.prediction.images import predict_images
    from atrous.prediction.loading import load
    from atrous.prediction.video import predict_video
    from atrous.progress import progress

    if settings["threads"]:
        torch.set_num_threads(settings["threads"])
    predictor = load(
        settings["model_path"], **{key: settings[key] for key in ("checkpoint", "preset", "precision", "device")}
    )
    images, videos = [job for job in jobs if not job.is_video], [job for job in jobs if job.is_video]
    shared: dict[str, Any] = {"protocol": protocol, "batch_size": settings["batch_size"]}
    with progress("images", shown=settings["progress"] and bool(images)) as advance:
        broken = predict_images(predictor, images, on_done=advance, **shared)
    for job in videos:
        with progress(job.source.name, shown=settings["progress"]) as advance:
            try:
                doubt = predict_video(predictor, job, on_done=advance, **shared)
            except DataError as error:
                broken[job.source], doubt = str(error), ""
        if doubt:
            print(f"note: {doubt}")  # noqa: T201
    return broken


def main() -> None:
    """Entry point."""
    ConfigStore.instance().store(name="predict_schema", node=PredictConfig)
    sys.argv[1:] = [written_out(text) for text in sys.argv[1:]]
    run_app(task, config_name="predict", interrupted=_INTERRUPTED)


def written_out(argument: str) -> str:
    """Return an argument as Hydra takes it.

    `model` and `protocol` are folders of conf/, so they stand for `model_path` and `protocol_name` here; `save=a,b` is
    short for a list; paths are quoted, because they may hold blanks, commas or =.
    """
    key, equals, value = argument.partition("=")
    key = {"model": "model_path", "protocol": "protocol_name"}.get(key, key)
    argument = as_list(f"{key}{equals}{value}", "save", "save")
    return with_path_quoted(argument, ("model_path", "protocol_name", "input", "output"))


if __name__ == "__main__":
    main()
