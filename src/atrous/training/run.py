"""A run from its config to its results: build, train, measure."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from atrous import lean_torchmetrics  # noqa: F401  # before Lightning imports it
from atrous.building import build_datasets, build_network
from atrous.data.dataset import SegmentationDataset
from atrous.data.spec import DatasetSpec
from atrous.hardware import device_type, require_device
from atrous.networks.activation_checkpointing import checkpoint_activations
from atrous.networks.complexity import multiply_adds
from atrous.networks.segmenter import Segmenter
from atrous.revision import revision
from atrous.run_store import RunFolder
from atrous.training import batch_norm, machine
from atrous.training.checkpoints import newest_checkpoint
from atrous.training.final_evaluation import evaluate_finished
from atrous.training.record import record, record_finished
from atrous.training.stopping import was_asked_to_end
from atrous.training.task import SegmentationTask
from atrous.training.trainer import build_board, build_data_module, build_loggers, build_trainer, is_first_rank
from atrous.training.validating import StoppedInValidationError
from atrous.training.wandb_log import WandbLog
from atrous.weights.matching import LoadReport
from atrous.weights.own import from_atrous

Config = Mapping[str, Any]


def build_model(config: Config, *, num_classes: int, pretrained: bool = True) -> Segmenter:
    """The network of a config, with weights drawn from its seed or read from `recipe.pretrained`.

    Args:
        config: the resolved config.
        num_classes: of its data.
        pretrained: whether weights are fetched that the config asks for; False where a checkpoint has all of them.
    """
    torch.manual_seed(config["seed"])
    model: Segmenter = build_network(config, num_classes=num_classes, pretrained=pretrained)
    decays = config["recipe"]["batch_norm"]
    batch_norm.set_decay(model, backbone=decays["backbone_decay"], head=decays["head_decay"])
    if pretrained and config["recipe"]["pretrained"] is not None:
        from atrous.weights.released import load_pretrained

        source = config["recipe"]["pretrained"]
        _say_what_was_left(f"recipe.pretrained={source}", load_pretrained(model, source))
    return model


def build_task(config: Config, model: Segmenter, *, spec: DatasetSpec) -> SegmentationTask:
    """The loss, the optimiser and the schedule of a config around its network.

    Args:
        config: the resolved config.
        model: its network.
        spec: its label space.
    """
    recipe = config["recipe"]
    return SegmentationTask(
        model=model,
        spec=spec,
        seed=config["seed"],
        max_steps=recipe["max_steps"],
        preprocessing=recipe["preprocessing"],
        optimizer=recipe["optimizer"],
        freeze_batch_norm=recipe["batch_norm"]["frozen"],
        upsample_logits=recipe["upsample_logits"],
        compiled=config["trainer"]["compile"],
    )


def _say_what_was_left(source: str, report: LoadReport) -> None:
    """Which parameters start as they were drawn: those of a new head, or of a classifier of other classes."""
    if report.left and is_first_rank():
        shown = ", ".join(report.left[:2]) + (f" and {len(report.left) - 2} more" if len(report.left) > 2 else "")
        print(f"{source}: {len(report.loaded)} tensors loaded; drawn from the seed: {shown}", flush=True)  # noqa: T201


def train_and_evaluate(folder: RunFolder, config: Config, protocols: Sequence[str]) -> None:
    """Train what is missing and measure `protocols`; called on every rank.

    Args:
        folder: the run's folder.
        config: the resolved config.
        protocols: names of the protocols to measure.
    """
    require_device(config["trainer"]["accelerator"], key="trainer.accelerator")
    revision()  # now: the files may change while it trains
    device = device_type(config["trainer"]["accelerator"])
    if device == "cpu":
        machine.use_allocator(config["trainer"]["cpu_allocator"], config["trainer"]["activation_checkpointing"])
        machine.use_kernels(config["trainer"]["cpu_kernels"])
    machine.use_tf32(config["trainer"]["tf32"])
    if config["trainer"]["compile"]:
        machine.check_compiler(device)
    if config["trainer"]["threads"]:
        torch.set_num_threads(config["trainer"]["threads"])
    train_set, val_set = build_datasets(config["data"], cached=True)
    saved, start = newest_checkpoint(folder, mends=is_first_rank())
    model = build_model(config, num_classes=train_set.spec.num_classes, pretrained=start == 0)
    parent = folder.facts().get("parent")
    if parent is not None and start == 0:
        path = RunFolder(Path(parent)).last_checkpoint
        _say_what_was_left(f"parent {path}", from_atrous(model, path, any_classes=True))
    board: WandbLog | None = None
    code = 1
    try:
        board = build_board(folder, config, classes=train_set.spec.classes)
        if saved is None or start < config["recipe"]["max_steps"]:
            loggers = build_loggers(folder, board=board, first_step=start)
            place = (saved, start)
            finished = _fit(folder, config, model, (train_set, val_set), loggers=loggers, place=place)
        else:
            from_atrous(model, saved)
            finished = True
            if is_first_rank():  # it may have been killed before they could be written
                record_finished(folder, config, saved)
                if "model" not in folder.results():
                    folder.add_results(model=_cost(config, model))
        if finished and is_first_rank():
            evaluate_finished(folder, config, model, val_set, protocols)
            folder.set_status("done", step=config["recipe"]["max_steps"])
        code = 0
    finally:
        if board is not None:
            board.finish(folder.results() if code == 0 else {}, exit_code=code)


def _fit(
    folder: RunFolder,
    config: Config,
    model: Segmenter,
    datasets: tuple[SegmentationDataset, SegmentationDataset],
    *,
    loggers: list[Any],
    place: tuple[Path | None, int],
) -> bool:
    """Train to the last step, from a checkpoint and its step if there is one; False if it was asked to end."""
    saved, start = place
    recipe, settings = config["recipe"], config["trainer"]
    cost = _cost(config, model)
    data = build_data_module(config, *datasets)
    data.start_step = start * settings["accumulate"]
    task = build_task(config, model, spec=datasets[0].spec)
    if settings["channels_last"]:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    checkpoint_activations(model, settings["activation_checkpointing"])
    if settings["nodes"] * settings["devices"] > 1:
        batch_norm.synchronise(model, on_cuda=device_type(settings["accelerator"]) == "cuda")
    if is_first_rank() and (warning := batch_norm.warning_of_parts(recipe, settings["accumulate"])):
        print(f"warning: {warning}", file=sys.stderr, flush=True)  # noqa: T201
    trainer = build_trainer(folder, config, data=data, loggers=loggers)
    try:
        with suppress(StoppedInValidationError):
            trainer.fit(task, datamodule=data, ckpt_path=str(saved) if start else None)
    finally:
        data.end_workers()
    if trainer.is_global_zero:
        record(folder, config, trainer, cost)
    return trainer.global_step >= recipe["max_steps"] and not was_asked_to_end(trainer)


def _cost(config: Config, model: Segmenter) -> dict[str, Any]:
    """Parameters and Multiply-Adds at the size of a crop, as results.json holds them."""
    size = config["recipe"]["crop_size"]
    cost = multiply_adds(model, size=(size, size))
    return {
        "parameters": cost.parameters,
        "multiply_adds": cost.true,
        "multiply_adds_paper": cost.paper,
        "size": [size, size],
    }
