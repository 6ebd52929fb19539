"""What results.json says of a training: its length, its speed, its memory and the code that made it."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from atrous.hardware import device_type, resolve_precision
from atrous.process_memory import peak_mib
from atrous.revision import revision
from atrous.run_store import RunFolder
from atrous.training.checkpoints import read_checkpoint
from atrous.training.finite import FiniteGuard
from atrous.training.stopping import was_asked_to_end

Config = Mapping[str, Any]


class Clock(Callback):
    """Counts the seconds of the steps that are in the weights: what a killed process lost is not counted.

    Validations are counted by themselves: a speed is that of the training alone.
    """

    def __init__(self) -> None:
        self._before, self._began = 0.0, time.monotonic()
        self._validating_before, self._validating_here = 0.0, 0.0
        self._validating_since: float | None = None  # None between validations

    @property
    def training_here(self) -> float:
        """Seconds since this process began to train, without validations."""
        return time.monotonic() - self._began - self._validating

    @property
    def training(self) -> float:
        """Seconds of all processes, without validations."""
        return self.seconds - self._validating_before - self._validating

    @property
    def seconds(self) -> float:
        """Seconds of all processes, validations and the reading of the first images included."""
        return self._before + time.monotonic() - self._began

    @property
    def _validating(self) -> float:
        """Seconds of this process's validations; the last one may not have ended."""
        since = self._validating_since
        return self._validating_here + (0.0 if since is None else time.monotonic() - since)

    def state_dict(self) -> dict[str, Any]:
        """The seconds up to here, kept in the checkpoint."""
        return {"seconds": self.seconds, "validating": self._validating_before + self._validating}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._before = float(state_dict["seconds"])
        self._validating_before = float(state_dict.get("validating", 0.0))  # other versions did not keep it

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin to count."""
        self._began = time.monotonic()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count for the validation."""
        self._validating_since = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count for the training again."""
        self._validating_here, self._validating_since = self._validating, None


def record(folder: RunFolder, config: Config, trainer: Trainer, cost: Mapping[str, Any]) -> None:
    """Add to results.json what is known when the training ends, whether it is complete or stopped.

    Args:
        folder: the run's folder.
        config: the resolved config.
        trainer: of this process, which has ended.
        cost: parameters and Multiply-Adds.
    """
    clock = next(each for each in trainer.callbacks if isinstance(each, Clock))  # type: ignore[attr-defined]
    guard = next(each for each in trainer.callbacks if isinstance(each, FiniteGuard))  # type: ignore[attr-defined]
    images = trainer.global_step * config["recipe"]["batch_size"]
    training = {
        **_of_config(folder, config),
        "steps": trainer.global_step,
        "seconds": round(clock.seconds, 2),
        "images_per_second": round(images / max(clock.training, 1e-9), 3),
        "skipped_steps": guard.skipped,
        "peak_memory_mib": _peak_memory_mib(trainer),
    }
    folder.add_results(training=training, model=cost)
    if trainer.global_step < config["recipe"]["max_steps"] or was_asked_to_end(trainer):
        folder.set_status("stopped", step=trainer.global_step, reason=f"stopped at step {trainer.global_step}")


def record_finished(folder: RunFolder, config: Config, path: Path) -> None:
    """Add to results.json what a last checkpoint knows, where the training was killed before it could be written.

    Args:
        folder: the run's folder.
        config: the resolved config.
        path: the checkpoint of the last step.
    """
    steps = config["recipe"]["max_steps"]
    if folder.results().get("training", {}).get("steps") == steps:
        return
    callbacks = read_checkpoint(path).get("callbacks", {})
    training = {
        **_of_config(folder, config),
        "steps": steps,
        "skipped_steps": callbacks.get(FiniteGuard.__qualname__, {}).get("skipped", 0),
    }
    clock = callbacks.get(Clock.__qualname__, {})
    seconds = clock.get("seconds")
    if seconds is not None:  # other versions did not keep it
        speed = steps * config["recipe"]["batch_size"] / max(seconds - clock.get("validating", 0.0), 1e-9)
        training |= {"seconds": round(seconds, 2), "images_per_second": round(speed, 3)}
    folder.add_results(training=training)


def _of_config(folder: RunFolder, config: Config) -> dict[str, Any]:
    settings, recipe = config["trainer"], config["recipe"]
    return {
        "precision": resolve_precision(recipe["precision"], device_type(settings["accelerator"])),
        "batch_norm_batch": recipe["batch_size"] // settings["accumulate"],
        "devices": settings["nodes"] * settings["devices"],
        "torch": torch.__version__,
        "atrous": versions(folder.results().get("training", {}).get("atrous"), revision()),
    }


def versions(earlier: str | None, now: str) -> str:
    """Each version that has made a part of a training, in their order, as one line."""
    return "; ".join(dict.fromkeys([*(earlier.split("; ") if earlier else []), now]))


def _peak_memory_mib(trainer: Trainer) -> int:
    if trainer.strategy.root_device.type == "cuda":
        return torch.cuda.max_memory_allocated() >> 20
    return peak_mib()
