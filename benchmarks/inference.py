"""Seconds and memory of inference with DeepLabv3+, as atrous predicts, against the same network in plain PyTorch.

    python -m benchmarks.inference --backbone resnet50 --size 513 --batch 2

"plain" is what most projects write: the default memory format and precision, float images that are ready before the
clock starts, logits at full size, argmax; for multi-scale + flip a loop over scales and mirror images that adds up
full-size probabilities. "atrous" is what atrous-predict does: batch norm folded, channels last, bf16 where it is in
hardware (`precision=auto`), normalisation of bytes, probabilities and labels by bands of rows. Both have the same
weights, the same images and the same number of threads. torchvision's DeepLabv3 and
segmentation_models.pytorch's DeepLabV3Plus, which are other networks, are measured where they can be imported. The
street is one image of 1024x2048 under Cityscapes' scales.

Each measurement is a process of its own, and the ways take turns, so that a busy machine slows all alike. Memory is the
largest resident set of such a process. Operations are two per Multiply-Add of the convolutions; the peak is what one
large convolution reaches here. "fastest" is the ratio of the fastest run of each way, which other work on the machine
disturbs least.
"""

import argparse
import json
import time
from functools import partial

import torch
from benchmarks.command import add_common_options, finish_each, positive, run
from benchmarks.figures import Figures, Spread, ratio
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
from benchmarks.peak import measured_peaks
from benchmarks.peers import PeerMissingError
from benchmarks.section import Section
from benchmarks.turns import BenchmarkError, in_process, take_turns

from atrous.networks.complexity import multiply_adds
from atrous.process_memory import peak_mib

TASKS = (SINGLE, MULTI_SCALE, STREET)
_KEYS = {SINGLE: "inference", MULTI_SCALE: "inference_multi_scale", STREET: "inference_street"}
_OPTIONS = ("backbone", "size", "batch", "steps", "threads")


def measure(name: str, task: str, arguments: argparse.Namespace) -> Figures:
    """Time one way in this process; a peer that is not there has a reason instead."""
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    ways = {PLAIN: plain_way, ATROUS: atrous_way}
    try:
        run = ways[name](task, arguments) if name in ways else peer_way(name, arguments)
    except PeerMissingError as error:
        return {"missing": str(error)}
    seconds = []
    with torch.inference_mode():
        for _ in range(arguments.steps + (task != STREET)):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
    return {
        "seconds": seconds[-arguments.steps :],
        "peak_mib": peak_mib(),
        "threads": torch.get_num_threads(),
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


def section_of(task: str, arguments: argparse.Namespace, peaks: dict[str, float]) -> Section:
    """Let the ways take turns at a task and lay out what they took.

    Raises:
        BenchmarkError: none could be measured.
    """
    names = [PLAIN, ATROUS, *(PEERS if task == SINGLE else ())]

    def in_own(name: str) -> Figures:
        options = {key: getattr(arguments, key) for key in _OPTIONS}
        options["steps"] = 1 if task == STREET else arguments.steps
        return in_process("benchmarks.inference", {"name": name, "task": task, **options})

    all_turns = take_turns(names, in_own, repeats=1 if task == STREET else arguments.repeats)
    measured = all_turns.measured
    missing = {name: turns[0]["missing"] for name, turns in measured.items() if "missing" in turns[0]}
    present = {name: turns for name, turns in measured.items() if name not in missing}
    if not present:
        raise BenchmarkError("; ".join(all_turns.died))
    work, gains, memory = operations(task, arguments), ["", ""], ""
    if PLAIN in present and ATROUS in present:
        gains = [ratio(present, PLAIN, ATROUS).text(), f"{_of_the_fastest(present):.2f}x"]
        memory = f"memory {100 * ratio(present, ATROUS, PLAIN, key='peak_mib').median:.0f}% of plain's; "
    rows = []
    for name, turns in present.items():
        seconds = Spread.of([second for turn in turns for second in turn["seconds"]])
        rate = f"{work / seconds.median / 1e9:.0f}" if name in (PLAIN, ATROUS) else ""
        peak = str(max(turn["peak_mib"] for turn in turns))
        rows.append([name, seconds.text(""), rate, peak, *(gains if name == ATROUS else ["", ""])])
    what = "1024x2048" if task == STREET else f"{arguments.size}x{arguments.size}"
    batch, threads = arguments.batch if task == SINGLE else 1, next(iter(present.values()))[0]["threads"]
    shown = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in peaks.items())
    return Section(
        key=_KEYS[task],
        title=f"Inference, {task}: DeepLabv3+ {arguments.backbone}, OS16, {what}, batch {batch}",
        text=(
            f"{threads} threads; a convolution's peak here, GFLOP/s: {shown}; {memory}"
            f"load average meanwhile: {all_turns.load}."
        ),
        columns=("way", "s (range)", "GFLOP/s", "MiB", "times as fast (range)", "fastest"),
        rows=rows,
        notes=[f"{name} is left out: {reason}" for name, reason in missing.items()],
        died=all_turns.died,
        figures={"measured": measured, "operations": work, "convolution_peak": peaks},
    )


def _of_the_fastest(measured: dict[str, list[Figures]]) -> float:
    """Plain's fastest run to that of atrous: what other work on the machine disturbs least."""
    plain, ours = (min(min(turn["seconds"]) for turn in measured[name]) for name in (PLAIN, ATROUS))
    return float(plain / ours)


def main() -> None:
    """Run the benchmark and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    whole = partial(parser.add_argument, type=positive)
    backbones = ("resnet18", "resnet34", "resnet50", "resnet101")
    parser.add_argument("--backbone", default="resnet50", choices=backbones, help="default: %(default)s")
    whole("--size", default=513, help="height and width of an image (%(default)s)")
    whole("--batch", default=2, help="images at a time of the task single (%(default)s)")
    whole("--steps", default=3, help="measured runs per process (%(default)s)")
    text = "0: as many as PyTorch chooses; 1 is steadier on a busy machine (%(default)s)"
    parser.add_argument("--threads", type=int, default=0, help=text)
    parser.add_argument("--task", nargs="+", default=TASKS, choices=TASKS, help="only these tasks (all of them)")
    parser.add_argument("--measure", type=json.loads, help=argparse.SUPPRESS)
    add_common_options(parser)
    arguments = parser.parse_args()
    if arguments.measure:
        name, task = arguments.measure.pop("name"), arguments.measure.pop("task")
        print(json.dumps(measure(name, task, argparse.Namespace(**arguments.measure))))
        return
    peaks = measured_peaks("cpu")
    finish_each([partial(section_of, task, arguments, peaks) for task in arguments.task], arguments)


if __name__ == "__main__":
    run(main)
