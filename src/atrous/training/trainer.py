"""The Lightning side of a run: data module, loggers, callbacks, trainer."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers.logger import Logger

from atrous.building import build_transforms
from atrous.data.datamodule import SegmentationDataModule
from atrous.data.dataset import SegmentationDataset
from atrous.hardware import device_type, resolve_precision
from atrous.processes import MEETING
from atrous.run_store import RunFolder
from atrous.training.checkpoints import AtomicCheckpointIO, Checkpoints
from atrous.training.csv_log import CsvLog
from atrous.training.finite import FiniteGuard
from atrous.training.progress import StepProgressBar
from atrous.training.record import Clock
from atrous.training.reporting import Reporter, SamplePredictions
from atrous.training.stopping import StopAt, leave_sigterm
from atrous.training.strategy import build_strategy, waiting_time
from atrous.training.validating import Validations
from atrous.training.wandb_log import WandbLog
from atrous.training.watchdog import Watchdog

Config = Mapping[str, Any]
_TRANSFORMS = "recipe.augmentation.transforms"


def is_first_rank() -> bool:
    """Whether this process writes the run's files."""
    return int(os.environ.get("RANK", "0")) == 0


def build_data_module(
    config: Config, train_set: SegmentationDataset, val_set: SegmentationDataset
) -> SegmentationDataModule:
    """Crops and whole images for every rank, as the config says."""
    recipe, settings, data = config["recipe"], config["trainer"], config["data"]
    return SegmentationDataModule(
        train=train_set,
        val=val_set,
        crop_size=recipe["crop_size"],
        batch_per_device=recipe["batch_size"] // (settings["nodes"] * settings["devices"] * settings["accumulate"]),
        max_steps=recipe["max_steps"] * settings["accumulate"],
        seed=config["seed"],
        **{
            **recipe["augmentation"],
            "transforms": build_transforms(
                recipe["augmentation"]["transforms"], where=_TRANSFORMS, ignore_label=train_set.spec.ignore_label
            ),
        },
        evaluation_size=data["evaluation_size"],
        output_stride=config["output_stride"],
        val_batch_size=data["val_batch_size"],
        num_workers=data["num_workers"],
        pin_memory=device_type(settings["accelerator"]) == "cuda",
    )


def build_board(folder: RunFolder, config: Config, *, classes: Sequence[str]) -> WandbLog | None:
    """The training's W&B run, when the config has one; on the first rank."""
    settings = config["logger"]["wandb"]
    if settings is None or not is_first_rank():
        return None
    return WandbLog(folder=folder.path, settings=settings, facts=folder.facts(), config=config, classes=classes)


def build_loggers(folder: RunFolder, *, board: WandbLog | None, first_step: int) -> list[Logger]:
    """metrics.csv always, and W&B where there is a board; on the first rank."""
    if not is_first_rank():
        return []
    csv = CsvLog(folder.path / "metrics.csv", first_step=first_step)
    return [csv] if board is None else [csv, board]


def build_trainer(folder: RunFolder, config: Config, *, data: SegmentationDataModule, loggers: list[Logger]) -> Trainer:
    """A Trainer that counts in optimiser steps and leaves data sharding to the data module."""
    recipe, settings = config["recipe"], config["trainer"]
    device = device_type(settings["accelerator"])
    shows_bar = settings["progress"] and sys.stdout.isatty()
    val_every = settings["val_every"] or max(1, recipe["max_steps"] // 10)
    strategy = build_strategy(
        settings["nodes"] * settings["devices"],
        device,
        meeting=f"{folder.facts().get('key')}-{os.environ.get(MEETING, '')}",
        patience=settings["timeout_seconds"],
    )
    trainer = Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        num_nodes=settings["nodes"],
        devices=settings["devices"],
        strategy=strategy,
        precision=resolve_precision(recipe["precision"], device),  # type: ignore[arg-type]
        max_steps=recipe["max_steps"],
        max_epochs=-1,
        accumulate_grad_batches=settings["accumulate"],
        val_check_interval=min(val_every, recipe["max_steps"]) * settings["accumulate"],
        check_val_every_n_epoch=None,
        limit_val_batches=1.0 if val_every <= recipe["max_steps"] else 0,
        num_sanity_val_steps=0,
        log_every_n_steps=settings["log_every"],
        logger=loggers,
        callbacks=_callbacks(folder, config, data=data, loggers=loggers, shows_bar=shows_bar),
        plugins=[AtomicCheckpointIO(), _environment()],
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=shows_bar,
        enable_model_summary=False,
        default_root_dir=folder.path,
        benchmark=_tries_kernels(settings, device),
        # A warning, not an error: the sum of the loss has no deterministic kernel, and no gradient depends on it.
        deterministic="warn" if device == "cuda" and settings["deterministic"] else None,
    )
    return leave_sigterm(trainer)


def _callbacks(
    folder: RunFolder,
    config: Config,
    *,
    data: SegmentationDataModule,
    loggers: Sequence[Logger],
    shows_bar: bool,
) -> list[Callback]:
    settings, batch_size = config["trainer"], config["recipe"]["batch_size"]
    train_set, every = data.train_samples.dataset, settings["log_every"]
    sample_id, classes = train_set.sample_id, train_set.spec.num_classes
    checkpoints = Checkpoints(folder=folder, every=settings["checkpoint_every"])
    stop = StopAt(step=settings["stop_at_step"], patience=waiting_time(settings["timeout_seconds"]))
    clock = Clock()
    reporter = Reporter(
        folder=folder, every=every, batch_size=batch_size, printed=not shows_bar, classes=classes, clock=clock
    )
    callbacks: list[Callback] = [  # the guard comes before those who log and save
        FiniteGuard(folder=folder, action=settings["on_nonfinite"], every=every, sample_id=sample_id),
        clock,
        reporter,
        checkpoints,
        stop,
    ]
    if shows_bar:
        callbacks.append(StepProgressBar(lambda: reporter.shown))
    for board in loggers:
        if isinstance(board, WandbLog):
            count = config["logger"]["wandb"]["images"]
            callbacks.append(SamplePredictions(samples=data.val_samples, count=count, send=board.send))
    # The last ones: a validation with which a training goes on is watched as well.
    return [
        *callbacks,
        _watchdog(folder, settings),
        Validations(stop=stop, checkpoints=checkpoints, printed=not shows_bar),
    ]


def _watchdog(folder: RunFolder, settings: Config) -> Watchdog:
    return Watchdog(
        folder=folder,
        seconds=settings["timeout_seconds"],
        rank=int(os.environ.get("RANK", "0")),
        # Its hooks would be compiled.
        tries_kernels=_tries_kernels(settings, device_type(settings["accelerator"])) and not settings["compile"],
    )


def _tries_kernels(settings: Config, device: str) -> bool:
    """Whether cuDNN chooses its kernels by trial."""
    return bool(device == "cuda" and settings["cudnn_benchmark"] and not settings["deterministic"])


def _environment() -> ClusterEnvironment:
    """Who the ranks are: atrous-train and torchrun say so, and what SLURM says of the job around them is not asked."""
    return TorchElasticEnvironment() if "RANK" in os.environ else LightningEnvironment()
