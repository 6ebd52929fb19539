"""A step of atrous-train against one of a bare loop, in one process that takes them in turn.

Two processes after each other differ by more than what Lightning costs, on a machine that others use as well. Here a
callback of the Trainer takes a step of the bare loop after each of the Trainer's, so that both see the same moments.
"""

import argparse
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml
from benchmarks.figures import Figures, Spread, middle, ratio
from benchmarks.jobs import atrous_train
from benchmarks.section import Goal, Section
from benchmarks.turns import in_process, take_turns
from lightning.pytorch import Callback, LightningModule, Trainer

from atrous.run_store import RunFolder, all_runs
from atrous.studies.job_process import process_environment

TRAINER, BARE = "atrous-train", "bare loop"
_STEP_RATIO = 1.03
_LOG_EVERY = 5  # steps between two entries of metrics.csv
_WARM_UP = 2  # steps of each that are left out: memory settles in them


def bare_steps(config: Mapping[str, Any]) -> Generator[None]:
    """A loop over the run's batches with its network, loss, optimiser and schedule; each `next` is a step."""
    import torch

    from atrous import hardware
    from atrous.building import build_datasets
    from atrous.networks.activation_checkpointing import checkpoint_activations
    from atrous.training import machine
    from atrous.training.run import build_model, build_task
    from atrous.training.trainer import build_data_module

    recipe = config["recipe"]
    datasets = build_datasets(config["data"], cached=True)
    model = build_model(config, num_classes=datasets[0].spec.num_classes)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    checkpoint_activations(model, config["trainer"]["activation_checkpointing"])
    data = build_data_module(config, *datasets)
    task = build_task(config, model, spec=datasets[0].spec).train()
    settings = task.configure_optimizers()
    optimizer, schedule = settings["optimizer"], settings["lr_scheduler"]["scheduler"]
    dtype = machine.autocast_dtype(hardware.resolve_precision(recipe["precision"], "cpu"))
    for step, batch in enumerate(data.train_dataloader()):
        with torch.enable_grad(), torch.autocast("cpu", dtype, enabled=dtype is not None, cache_enabled=False):
            loss = task.training_step(batch, step)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        yield


class InTurns(Callback):
    """Takes a step of something else after each of the Trainer's, and times both.

    A step of the Trainer lasts from the end of the other's to the end of its own: with its loader, its callbacks that
    stand before this one, and its loggers, which write after the callbacks.

    Args:
        other: takes its step.

    Attributes:
        seconds: of the Trainer's steps.
        others: seconds of the other's.
    """

    def __init__(self, other: Callable[[], None]) -> None:
        self._other = other
        self._since: float | None = None
        self.seconds: list[float] = []
        self.others: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Note the Trainer's time and let the other step."""
        now = time.perf_counter()
        if self._since is not None:
            self.seconds.append(now - self._since)
        self._other()
        self._since = time.perf_counter()
        if self.seconds:  # a step of the other for each of the Trainer's; the first has no beginning
            self.others.append(self._since - now)


def in_turns(config: Mapping[str, Any]) -> Figures:
    """Seconds per step of both, from a run of the config as a job of atrous-train trains it."""
    from atrous.training import run
    from atrous.training.trainer import build_trainer

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    bare = bare_steps(config)
    turns = InTurns(lambda: next(bare))

    def build_with_turns(*arguments: Any, **named: Any) -> Trainer:
        trainer = build_trainer(*arguments, **named)
        trainer.callbacks.append(turns)  # type: ignore[attr-defined]
        return trainer

    # Left open, the loop's loader would keep its workers, and the process with them.
    with (
        closing(bare),
        patch.object(run, "build_trainer", build_with_turns),
        tempfile.TemporaryDirectory(prefix="atrous-overhead-") as name,
    ):
        folder = RunFolder(Path(name))
        folder.create(config_yaml=yaml.safe_dump(dict(config)), facts={})
        run.train_and_evaluate(folder, config, [])
    return {TRAINER: turns.seconds[_WARM_UP:], BARE: turns.others[_WARM_UP:]}


def config_of_a_run(steps: int) -> dict[str, Any]:
    """The config of a run on `shapes` without validations, as atrous-train leaves it after its first step."""
    overrides = ["data=shapes", f"recipe.max_steps={steps}", f"trainer.log_every={_LOG_EVERY}"]
    overrides += [f"trainer.val_every={steps + 1}", "data.val.length=1", "data.val_batch_size=1"]
    with tempfile.TemporaryDirectory(prefix="atrous-overhead-") as folder:
        atrous_train([*overrides, "trainer.stop_at_step=1", f"store={folder}"], folder=Path(folder))
        config = next(iter(all_runs(Path(folder)))).config()
    return {**config, "trainer": {**config["trainer"], "stop_at_step": None}}


def step_section(*, steps: int, repeats: int) -> Section:
    """A step of atrous-train against one of the bare loop."""
    config = config_of_a_run(steps)
    environment = process_environment(os.environ, {"threads": 0, "devices": 1})

    def measure(_: str) -> Figures:
        return in_process("benchmarks.trainer_step", {"config": config}, environment=environment)

    both = take_turns([f"{TRAINER} and {BARE}"], measure, repeats=repeats)
    turns = next(iter(both.measured.values()))
    measured = {name: [{"seconds": turn[name]} for turn in turns] for name in (TRAINER, BARE)}
    found = {name: Spread.of([middle(turn, "seconds") for turn in each]) for name, each in measured.items()}
    share = ratio(measured, TRAINER, BARE)
    return Section(
        key="trainer_overhead",
        title="A step of the Trainer against a bare loop",
        text=(
            "A training of `atrous-train` on `shapes` (DeepLabv3+ ResNet-18, crop 129, batch 16), validation off, and "
            "a loop with the same network, loader and settings, which take their steps in turn in one process. "
            f"Load average meanwhile: {both.load}."
        ),
        columns=("way", "s per step (range over turns)"),
        rows=[[name, spread.text("", digits=3)] for name, spread in found.items()],
        died=both.died,
        goals=[Goal("a step of atrous-train in steps of the bare loop", share, at_most=_STEP_RATIO)],
        figures={"measured": measured},
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", type=json.loads, required=True, help="the config of a run, as JSON")
    print(json.dumps(in_turns(parser.parse_args().measure["config"])))
