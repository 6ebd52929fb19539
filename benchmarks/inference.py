"""Seconds and memory of inference with DeepLabv3+, as atrous predicts, against the same network in plain PyTorch.

    python -m benchmarks.inference --backbone resnet50 --size 513 --batch 2

"plain" is what most projects write: the default memory format and precision, float images that are ready before the
clock starts, logits at full size, argmax; for multi-scale + flip a loop over scales and mirror images that adds up
full-size probabilities. "atrous" is what atrous-predict does: batch norm folded, channels last, bf16 where it is in
hardware (`precision=auto`), normalisation of bytes, probabilities and labels by bands of rows. Both have the same
weights, the same images and the same number of threads. torchvision's DeepLabv3 and
segmentation_models.pytorch's DeepLabV3Plus, which are other networks, are measured where they can be imported.

Each measurement is a process of its own, and the ways take turns, so that a busy machine slows all alike. Memory is the
largest resident set of a process that did nothing but multi-scale + flip, the Cityscapes protocol on 1024x2048.
Operations are two per Multiply-Add of the convolutions; the peak is what one large convolution reaches here. "fastest"
is the ratio of the fastest run of each way, which other work on the machine disturbs least.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from benchmarks.inference_ways import (
    ATROUS,
    MULTI_SCALE,
    PEERS,
    PLAIN,
    SINGLE,
    STREET,
    atrous_way,
    images_of,
    model_of,
    peer_way,
    plain_way,
    protocol_of,
)
from rich.console import Console
from rich.table import Table

from atrous.networks.complexity import multiply_adds

TASKS = (SINGLE, MULTI_SCALE, STREET)
_ROOT = Path(__file__).resolve().parents[1]
Figures = dict[str, Any]


def measure(arguments: argparse.Namespace) -> Figures:
    """Time one way in this process."""
    name, task = arguments.only, arguments.task
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    ways = {PLAIN: plain_way, ATROUS: atrous_way}
    run = ways[name](task, arguments) if name in ways else peer_way(name, arguments)
    if run is None:
        return {"seconds": []}
    seconds = []
    with torch.inference_mode():
        for _ in range(arguments.steps + (task != STREET)):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
    return {
        "seconds": seconds[-arguments.steps :],
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "threads": torch.get_num_threads(),
    }


def convolution_peak(dtype: torch.dtype) -> float:
    """Operations per second of a 3x3 convolution, 256 channels, 2x129x129, channels last: the best of a few."""
    conv = torch.nn.Conv2d(256, 256, 3, padding=1).to(dtype)
    conv.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(2, 256, 129, 129).to(dtype).contiguous(memory_format=torch.channels_last)
    seconds = []
    with torch.inference_mode():
        for _ in range(8):
            start = time.perf_counter()
            conv(x)
            seconds.append(time.perf_counter() - start)
    return 2 * 2 * 256 * 256 * 9 * 129 * 129 / min(seconds)


def in_process(name: str, task: str, arguments: argparse.Namespace) -> Figures:
    """Measure one way in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.inference", "--only", name, "--task", task]
    steps = 1 if task == STREET else arguments.steps
    for option, value in (
        ("backbone", arguments.backbone),
        ("size", arguments.size),
        ("batch", arguments.batch),
        ("steps", steps),
        ("threads", arguments.threads),
    ):
        command += [f"--{option}", str(value)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=_ROOT).stdout
    figures: Figures = json.loads(output.splitlines()[-1])
    return figures


def ratios(measured: dict[str, list[Figures]], key: str) -> dict[str, float]:
    """How often smaller ours is than the plain way: median over the turns, their range, and smallest to smallest."""
    pairs = list(zip(measured[PLAIN], measured[ATROUS], strict=True))
    found = [_median(plain[key]) / _median(ours[key]) for plain, ours in pairs]
    least = [min(_least(turn[key]) for turn in turns) for turns in zip(*pairs, strict=True)]
    return {
        "median": statistics.median(found),
        "min": min(found),
        "max": max(found),
        "of_the_least": least[0] / least[1],
    }


def operations(task: str, arguments: argparse.Namespace) -> float:
    """Operations of the convolutions of one run of a task."""
    model, protocol = model_of(arguments, task), protocol_of(task)
    images = images_of(task, arguments)
    total = 0.0
    for scale in protocol.scales:
        size = [int((side - 1) * scale + 1) for side in images.shape[-2:]]
        total += 2 * multiply_adds(model, size=(size[0], size[1])).true
    return total * len(images) * (2 if protocol.flip else 1)


def run_task(task: str, arguments: argparse.Namespace) -> Figures:
    """Let the ways take turns at a task."""
    names = [PLAIN, ATROUS, *(PEERS if task == SINGLE else ())]
    measured: dict[str, list[Figures]] = {name: [] for name in names}
    loads = [os.getloadavg()[0]]
    for turn in range(1 if task == STREET else arguments.repeats):
        for name in names if turn % 2 == 0 else names[::-1]:
            measured[name].append(in_process(name, task, arguments))
            loads.append(os.getloadavg()[0])
    return {
        "measured": measured,
        "operations": operations(task, arguments),
        "speedup": ratios(measured, "seconds"),
        "memory": ratios(measured, "peak_mib"),
        "load": [min(loads), max(loads)],
    }


def table_of(result: Figures, *, title: str) -> Table:
    """Lay the figures of a task out."""
    table = Table(title=title)
    for column in ("way", "s", "min - max", "GFLOP/s", "MiB", "plain / atrous (range)", "fastest"):
        table.add_column(column, justify="left" if column == "way" else "right", no_wrap=True)
    ratio = result["speedup"]
    for name, turns in result["measured"].items():
        seconds = [second for turn in turns for second in turn["seconds"]]
        if not seconds:
            table.add_row(name, "not importable")
            continue
        median = statistics.median(seconds)
        rate = f"{result['operations'] / median / 1e9:.0f}" if name in (PLAIN, ATROUS) else ""
        times = f"{ratio['median']:.2f}x ({ratio['min']:.2f} - {ratio['max']:.2f})" if name == ATROUS else ""
        fastest = f"{ratio['of_the_least']:.2f}x" if name == ATROUS else ""
        spread, peak = f"{min(seconds):.2f} - {max(seconds):.2f}", str(max(turn["peak_mib"] for turn in turns))
        table.add_row(name, f"{median:.2f}", spread, rate, peak, times, fastest)
    return table


def main() -> None:
    """Run the benchmark and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    whole = partial(parser.add_argument, type=int)
    backbones = ("resnet18", "resnet34", "resnet50", "resnet101")
    parser.add_argument("--backbone", default="resnet50", choices=backbones, help="default: %(default)s")
    whole("--size", default=513, help="height and width of an image (%(default)s)")
    whole("--batch", default=2, help="images at a time of the task single (%(default)s)")
    whole("--repeats", default=3, help="turns, one process of each way per turn (%(default)s)")
    whole("--steps", default=3, help="measured runs per process (%(default)s)")
    whole("--threads", default=0, help="0: as many as PyTorch chooses; 1 is steadier on a busy machine (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure here too")
    parser.add_argument("--only", choices=(PLAIN, ATROUS, *PEERS), help="measure this one here and print JSON")
    parser.add_argument("--task", choices=TASKS, help="only this task (all of them)")
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(measure(arguments)))
        return
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    console = Console(width=None if sys.stdout.isatty() else 120)
    peaks = {str(dtype).removeprefix("torch."): convolution_peak(dtype) for dtype in (torch.float32, torch.bfloat16)}
    shown = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in peaks.items())
    console.print(f"a convolution's peak here, GFLOP/s: {shown}; threads: {torch.get_num_threads()}")
    results = {}
    for task in [arguments.task] if arguments.task else TASKS:
        results[task] = result = run_task(task, arguments)
        what = "1024x2048" if task == STREET else f"{arguments.size}x{arguments.size}"
        batch = arguments.batch if task == SINGLE else 1
        console.print(table_of(result, title=f"{task}: DeepLabv3+ {arguments.backbone}, OS16, {what}, batch {batch}"))
        memory, load = 100 / result["memory"]["median"], result["load"]
        console.print(f"memory: {memory:.0f}% of plain's; load average while it ran: {load[0]:.1f} to {load[1]:.1f}")
    if arguments.json:
        facts = {key: value for key, value in vars(arguments).items() if key not in ("json", "only", "task")}
        content = {**facts, "peak": peaks, **results, "torch": torch.__version__}
        arguments.json.write_text(json.dumps(content, indent=1) + "\n")


def _least(value: float | list[float]) -> float:
    return min(value) if isinstance(value, list) else value


def _median(value: float | list[float]) -> float:
    return statistics.median(value) if isinstance(value, list) else value


if __name__ == "__main__":
    main()
