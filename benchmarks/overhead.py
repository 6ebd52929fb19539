"""What Lightning and a sweep cost beside the training itself.

    python -m benchmarks.overhead

The Trainer's step is read off metrics.csv of a run of atrous-train: images per second between two entries. The bare
loop builds the same network, data and settings from that run's config.yaml and takes the same windows. A sweep's
overhead is all its time but that of the optimiser steps, jobs one at a time, by job.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from benchmarks.command import add_common_options, finish
from benchmarks.figures import Figures, Spread, middle, ratio
from benchmarks.section import Goal, Section
from benchmarks.turns import BenchmarkError, in_process, take_turns

from atrous.run_store import RunFolder, all_runs
from atrous.studies.job_process import process_environment

TRAINER, BARE = "atrous-train", "bare loop"
_STEP_RATIO, _SECONDS_PER_JOB = 1.03, 5.0
_EVERY = 5  # steps of a window
_ATROUS_TRAIN = ("-c", "from atrous.commands.train import main; main()")


def atrous_train(arguments: Sequence[str], *, folder: Path) -> float:
    """Run the command; return its seconds.

    Raises:
        BenchmarkError: it failed.
    """
    start = time.perf_counter()
    command = [sys.executable, *_ATROUS_TRAIN, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder, check=False)
    if done.returncode != 0:
        raise BenchmarkError(f"atrous-train {' '.join(arguments)} failed:\n{done.stdout[-2000:]}")
    return time.perf_counter() - start


def windows(metrics: Path, *, batch_size: int) -> list[float]:
    """Seconds per step between two entries of metrics.csv; the first window, which warms up, is left out."""
    with metrics.open(newline="") as stream:
        speeds = [row["train/images_per_second"] for row in csv.DictReader(stream)]
    return [batch_size / float(speed) for speed in speeds if speed][1:]


def bare_loop(config: dict[str, Any]) -> list[float]:
    """Seconds per step of a loop over the run's batches, in the windows that the run reports."""
    import torch

    from atrous.building import build_datasets
    from atrous.training import machine
    from atrous.training.run import build_model
    from atrous.training.task import SegmentationTask
    from atrous.training.trainer import build_data_module

    machine.use_allocator(config["trainer"]["cpu_allocator"], config["trainer"]["activation_checkpointing"])
    machine.use_kernels(config["trainer"]["cpu_kernels"])
    recipe = config["recipe"]
    datasets = build_datasets(config["data"], cached=True)
    model = build_model(config, num_classes=datasets[0].spec.num_classes)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    data = build_data_module(config, *datasets)
    task = SegmentationTask(
        model=model,
        spec=datasets[0].spec,
        seed=config["seed"],
        max_steps=recipe["max_steps"],
        preprocessing=recipe["preprocessing"],
        optimizer=recipe["optimizer"],
    ).train()
    settings = task.configure_optimizers()
    optimizer, schedule = settings["optimizer"], settings["lr_scheduler"]["scheduler"]
    dtype = machine.autocast_dtype(machine.resolve_precision(recipe["precision"], "cpu"))
    seconds, since = [], time.perf_counter()
    for step, batch in enumerate(data.train_dataloader(), start=1):
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            loss = task.training_step(batch, step)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if step % config["trainer"]["log_every"] == 0:
            now = time.perf_counter()
            seconds.append((now - since) / config["trainer"]["log_every"])
            since = now
    return seconds[1:]


def step_section(*, steps: int, repeats: int) -> Section:
    """A step of atrous-train against one of the bare loop."""
    overrides = ["data=shapes", f"recipe.max_steps={steps}", f"trainer.log_every={_EVERY}"]
    overrides += [f"trainer.val_every={steps + 1}", "data.val.length=1", "data.val_batch_size=1"]

    def measure(name: str) -> Figures:
        with tempfile.TemporaryDirectory(prefix="atrous-overhead-") as folder:
            if name == TRAINER:
                atrous_train([*overrides, f"store={folder}"], folder=Path(folder))
                run = next(iter(all_runs(Path(folder))))
                configs.append(run.config_file.read_text())
                batch_size = yaml.safe_load(configs[0])["recipe"]["batch_size"]
                return {"seconds": windows(run.path / "metrics.csv", batch_size=batch_size)}
            environment = process_environment(os.environ, {"threads": 0, "devices": 1})
            return in_process("benchmarks.overhead", {"config": configs[0]}, environment=environment)

    configs: list[str] = []
    measured, loads = take_turns([TRAINER, BARE], measure, repeats=repeats)
    found = {name: Spread.of([middle(turn, "seconds") for turn in turns]) for name, turns in measured.items()}
    share = ratio(measured, TRAINER, BARE)
    return Section(
        key="trainer_overhead",
        title="A step of the Trainer against a bare loop",
        text=(
            "`atrous-train` on `shapes` (DeepLabv3+ ResNet-18, crop 129, batch 16), validation off, against a loop "
            f"with the same network, loader and settings. Load average meanwhile: {loads[0]:.1f} to {loads[1]:.1f}."
        ),
        columns=("way", "s per step (range over turns)"),
        rows=[[name, spread.text("", digits=3)] for name, spread in found.items()],
        goals=[Goal("a step of atrous-train in steps of the bare loop", share, at_most=_STEP_RATIO)],
        figures={"measured": measured},
    )


def accounts(run: RunFolder) -> dict[str, float]:
    """Seconds of a job: from the writing of its config to its end, its optimiser steps, its evaluation."""
    results, status = run.results(), run.status()
    evaluation = sum(float(entry["seconds"]) for entry in results["evaluations"].values())
    return {
        "job": float(status["updated"]) - run.config_file.stat().st_mtime,
        "training": float(results["training"]["seconds"]),
        "evaluation": evaluation,
    }


def sweep_section(*, repeats: int, experiment: str = "deeplabv3/table1") -> Section:
    """What the jobs of a small sweep cost beyond their training."""
    overheads, rows, jobs = [], [], []
    for turn in range(repeats):
        with tempfile.TemporaryDirectory(prefix="atrous-sweep-") as name:
            folder = Path(name)
            arguments = ["-m", f"+experiment={experiment}", "scale=smoke", f"store={folder}", "hydra.launcher.jobs=1"]
            wall = atrous_train(arguments, folder=folder)
            jobs = [accounts(run) for run in all_runs(folder)]
        training, evaluation, whole = (sum(job[key] for job in jobs) for key in ("training", "evaluation", "job"))
        overheads.append((wall - training) / len(jobs))
        cells = (wall, training, evaluation, whole - training - evaluation, wall - whole)
        rows.append([f"turn {turn + 1}", str(len(jobs)), *(f"{seconds:.1f}" for seconds in cells)])
    what = "seconds per job beyond its training"
    return Section(
        key="sweep_overhead",
        title="A sweep's overhead per job",
        text=f"`atrous-train -m +experiment={experiment} scale=smoke`, a job at a time; seconds of all jobs together.",
        columns=("", "jobs", "whole", "training", "evaluation", "rest of the jobs", "sweep itself"),
        rows=rows,
        goals=[Goal(what, Spread.of(overheads), at_most=_SECONDS_PER_JOB, unit=" s")],
        notes=["The rest of a job is its start (imports, building, checks) and its end (checkpoints, results)."],
        figures={"jobs": jobs, "overheads": overheads},
    )


def main() -> None:
    """Run the benchmark and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30, help="steps of a run (%(default)s)")
    parser.add_argument("--measure", type=json.loads, help=argparse.SUPPRESS)
    add_common_options(parser)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps({"seconds": bare_loop(yaml.safe_load(arguments.measure["config"]))}))
        return
    step = step_section(steps=arguments.steps, repeats=arguments.repeats)
    finish([step, sweep_section(repeats=max(1, arguments.repeats - 1))], arguments.out)


if __name__ == "__main__":
    main()
