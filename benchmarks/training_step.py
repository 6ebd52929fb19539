"""Seconds per training step of DeepLabv3+, as atrous-train runs it, against the same network in plain PyTorch.

    python benchmarks/training_step.py --backbone resnet50 --size 513 --batch 2

"plain" is what most projects write: the default memory format, precision and allocator, float images that are ready
before the clock starts, the network's logits at full size, `F.cross_entropy`, `torch.optim.SGD`. "atrous" is what a
job of atrous-train does in a step: the settings of its threads and its allocator, channels last, the precision of
`recipe.precision=auto`, normalisation of bytes, the task's loss, optimiser and schedule. Both have the same weights,
the same images and PyTorch's default number of threads. Each measurement is a process of its own, and the two take
turns, so that a busy machine slows both alike.

Columns: CPU seconds of all threads together (spinning included), operations per second (three forward passes of two
operations per Multiply-Add of the convolutions), peak memory of the process, page faults per step.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from atrous import DeepLabV3Plus
from atrous.data.preprocessing import INCEPTION
from atrous.data.spec import VOC_SPEC
from atrous.networks.complexity import multiply_adds
from atrous.studies.job_process import process_environment
from atrous.training import machine
from atrous.training.task import SegmentationTask

PLAIN, ATROUS = "plain", "atrous"
_WARM_UP = 2  # steps
OPTIMIZER = {"lr": 0.007, "momentum": 0.9, "weight_decay": 1e-4, "bias_lr_multiplier": 2.0, "poly_power": 0.9}
Figures = dict[str, Any]


def batch_of(arguments: argparse.Namespace) -> dict[str, Tensor]:
    """Images and labels as the loader delivers them: bytes, channels last, with some void pixels."""
    torch.manual_seed(0)
    n, size = arguments.batch, arguments.size
    labels = torch.randint(0, VOC_SPEC.num_classes, (n, size, size), dtype=torch.uint8)
    labels[:, :: max(1, size // 16)] = VOC_SPEC.ignore_label
    return {
        "image": torch.randint(0, 256, (n, size, size, 3), dtype=torch.uint8).permute(0, 3, 1, 2),
        "label": labels,
        "extent": torch.full((n, 2), size),
    }


def model_of(arguments: argparse.Namespace) -> DeepLabV3Plus:
    """The network that `model=deeplabv3plus` trains; the same weights every time."""
    torch.manual_seed(0)
    return DeepLabV3Plus(backbone=arguments.backbone, output_stride=arguments.output_stride, multi_grid=None)


def plain_step(model: DeepLabV3Plus, batch: dict[str, Tensor]) -> Callable[[], None]:
    """Return a step in PyTorch's defaults."""
    images, labels = INCEPTION.normalise(batch["image"], batch["extent"]).contiguous(), batch["label"].long()
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=OPTIMIZER["lr"],
        momentum=OPTIMIZER["momentum"],
        weight_decay=OPTIMIZER["weight_decay"],
    )

    def step() -> None:
        loss = F.cross_entropy(model(images), labels, ignore_index=VOC_SPEC.ignore_label)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def atrous_step(model: DeepLabV3Plus, batch: dict[str, Tensor]) -> Callable[[], None]:
    """Return a step as `atrous.training.run` sets it up."""
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    task = SegmentationTask(
        model=model, spec=VOC_SPEC, seed=0, max_steps=30000, preprocessing="inception", optimizer=OPTIMIZER
    )
    task.train()
    settings = task.configure_optimizers()
    optimizer, schedule = settings["optimizer"], settings["lr_scheduler"]["scheduler"]
    dtype = machine.autocast_dtype(machine.resolve_precision("auto", "cpu"))

    def step() -> None:
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            loss = task.training_step(batch, 0)  # type: ignore[arg-type]
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()

    return step


def measure(arguments: argparse.Namespace) -> Figures:
    """Time the steps of one way in this process, after some that let memory settle."""
    if arguments.only == ATROUS:
        machine.keep_freed_memory()
    batch = batch_of(arguments)
    model = model_of(arguments).train()
    step = (plain_step if arguments.only == PLAIN else atrous_step)(model, batch)
    for _ in range(_WARM_UP):
        step()
    seconds, cpu_seconds = [], []
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(arguments.steps):
        wall, cpu = time.perf_counter(), time.process_time()
        step()
        seconds.append(time.perf_counter() - wall)
        cpu_seconds.append(time.process_time() - cpu)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "page_faults": (usage.ru_minflt - faults) // arguments.steps,
        "peak_mib": usage.ru_maxrss // 1024,
        "threads": torch.get_num_threads(),
        "precision": "32-true" if arguments.only == PLAIN else machine.resolve_precision("auto", "cpu"),
    }


def in_process(name: str, arguments: argparse.Namespace) -> Figures:
    """Measure one way in a fresh process."""
    options = ("backbone", "size", "batch", "output_stride", "steps")
    command = [sys.executable, str(Path(__file__).resolve()), "--only", name]
    for option in options:
        command += [f"--{option.replace('_', '-')}", str(getattr(arguments, option))]
    environment = process_environment(os.environ, threads=0) if name == ATROUS else dict(os.environ)
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    figures: Figures = json.loads(output.splitlines()[-1])
    return figures


def summary(measured: dict[str, list[Figures]], arguments: argparse.Namespace) -> Figures:
    """The figures of every row, and how often faster ours is: the median over the turns, and their range."""
    operations = (
        3 * 2 * multiply_adds(model_of(arguments), size=(arguments.size, arguments.size)).true * arguments.batch
    )
    rows = {}
    for name, turns in measured.items():
        seconds = [second for turn in turns for second in turn["seconds"]]
        median = statistics.median(seconds)
        rows[name] = {
            "seconds": median,
            "seconds_min": min(seconds),
            "seconds_max": max(seconds),
            "cpu_seconds": statistics.median(second for turn in turns for second in turn["cpu_seconds"]),
            "images_per_second": arguments.batch / median,
            "gflops_per_second": operations / median / 1e9,
            "peak_mib": max(turn["peak_mib"] for turn in turns),
            "page_faults": round(statistics.median(turn["page_faults"] for turn in turns)),
            "precision": turns[0]["precision"],
        }
    return {
        "rows": rows,
        "speedup": _ratios(measured, "seconds"),
        "speedup_cpu": _ratios(measured, "cpu_seconds"),
        "gflop_per_step": operations / 1e9,
        "threads": measured[PLAIN][0]["threads"],
        "torch": torch.__version__,
    }


def _ratios(measured: dict[str, list[Figures]], key: str) -> dict[str, float]:
    pairs = zip(measured[PLAIN], measured[ATROUS], strict=True)
    ratios = [statistics.median(plain[key]) / statistics.median(ours[key]) for plain, ours in pairs]
    return {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}


def table_of(result: Figures, *, title: str) -> Table:
    """Lay the figures out."""
    table = Table(title=title)
    columns = ("", "s/step", "min - max", "CPU s", "images/s", "GFLOP/s", "MiB", "faults", "precision")
    for column in columns:
        table.add_column(column, justify="left" if not column else "right", no_wrap=True)
    for name, row in result["rows"].items():
        table.add_row(
            name,
            f"{row['seconds']:.2f}",
            f"{row['seconds_min']:.2f} - {row['seconds_max']:.2f}",
            f"{row['cpu_seconds']:.2f}",
            f"{row['images_per_second']:.3f}",
            f"{row['gflops_per_second']:.0f}",
            str(row["peak_mib"]),
            str(row["page_faults"]),
            row["precision"],
        )
    return table


def main() -> None:
    """Run the benchmark and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    whole = partial(parser.add_argument, type=int)
    backbones = ("resnet18", "resnet34", "resnet50", "resnet101")
    parser.add_argument("--backbone", default="resnet50", choices=backbones, help="default: %(default)s")
    whole("--size", default=513, help="height and width of an image (%(default)s)")
    whole("--batch", default=2, help="images per step (%(default)s)")
    whole("--output-stride", default=16, help="output stride (%(default)s)")
    whole("--repeats", default=3, help="turns, one process of each way per turn (%(default)s)")
    whole("--steps", default=3, help="measured steps per process (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure here too")
    parser.add_argument("--only", choices=(PLAIN, ATROUS), help="measure this one in this process and print JSON")
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(measure(arguments)))
        return
    measured: dict[str, list[Figures]] = {PLAIN: [], ATROUS: []}
    for turn in range(arguments.repeats):
        for name in (PLAIN, ATROUS) if turn % 2 == 0 else (ATROUS, PLAIN):
            measured[name].append(in_process(name, arguments))
    result = summary(measured, arguments)
    size, threads = arguments.size, result["threads"]
    title = f"DeepLabv3+ {arguments.backbone}, {size}x{size}, batch {arguments.batch}, {threads} threads"
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table_of(result, title=title))
    for key, what in (("speedup", "seconds"), ("speedup_cpu", "CPU seconds")):
        ratio = result[key]
        console.print(f"atrous is faster by {ratio['median']:.2f}x in {what} ({ratio['min']:.2f} - {ratio['max']:.2f})")
    if arguments.json:
        facts = {key: value for key, value in vars(arguments).items() if key not in ("json", "only")}
        arguments.json.write_text(json.dumps({**facts, **result, "measured": measured}, indent=1) + "\n")


if __name__ == "__main__":
    main()
