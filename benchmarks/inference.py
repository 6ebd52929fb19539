"""Seconds and memory of inference with DeepLabv3+, as atrous predicts, against the same network in plain PyTorch.

    python benchmarks/inference.py --backbone resnet50 --size 513 --batch 2

"plain" is what most projects write: the default memory format and precision, float images that are ready before the
clock starts, logits at full size, argmax; for multi-scale + flip a loop over scales and mirror images that adds up
full-size probabilities. "atrous" is what atrous-predict does: batch norm folded, channels last, bf16 where it is in
hardware (`precision=auto`), normalisation of bytes, probabilities and labels by bands of rows. Both have the same
weights, the same images and PyTorch's default number of threads. torchvision's DeepLabv3 and
segmentation_models.pytorch's DeepLabV3Plus, which are other networks, are measured where they can be imported.

Each measurement is a process of its own, and the ways take turns, so that a busy machine slows all alike. Memory is the
largest resident set of a process that did nothing but multi-scale + flip, the Cityscapes protocol on 1024x2048.
Operations are two per Multiply-Add of the convolutions; the peak is what one large convolution reaches here. "fastest"
is the ratio of the fastest run of each way, which other work on the machine disturbs least.
"""

import argparse
import json
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
from atrous.evaluation.inference import predict
from atrous.evaluation.preparation import prepared
from atrous.evaluation.protocol import Protocol, load_protocol
from atrous.hardware import has_bf16
from atrous.networks.complexity import multiply_adds

PLAIN, ATROUS = "plain", "atrous"
PEERS = ("torchvision", "smp")
SINGLE, MULTI_SCALE, STREET = "single", "multi-scale + flip", "street, multi-scale + flip"
_PROTOCOLS = {SINGLE: "single", MULTI_SCALE: "ms_flip_os16", STREET: "cityscapes_ms_flip_os8"}
_STREET_SIZE = (1024, 2048)
Figures = dict[str, Any]


def protocol_of(task: str) -> Protocol:
    """The protocol of a task, at output stride 16 throughout."""
    found = load_protocol(_PROTOCOLS[task])
    return Protocol(output_stride=16, scales=found.scales, flip=found.flip)


def images_of(task: str, arguments: argparse.Namespace) -> Tensor:
    """Images as bytes, channels last: what reading files gives."""
    torch.manual_seed(0)
    count = arguments.batch if task == SINGLE else 1
    height, width = _STREET_SIZE if task == STREET else (arguments.size, arguments.size)
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8).permute(0, 3, 1, 2)


def model_of(arguments: argparse.Namespace, task: str = SINGLE) -> DeepLabV3Plus:
    """The network of both ways; the same weights every time."""
    torch.manual_seed(0)
    classes = 19 if task == STREET else 21
    return DeepLabV3Plus(backbone=arguments.backbone, num_classes=classes, multi_grid=None).eval()


def plain_way(task: str, arguments: argparse.Namespace) -> Callable[[], Tensor]:
    """Return inference in PyTorch's defaults."""
    images, model = images_of(task, arguments), model_of(arguments, task)
    x = INCEPTION.normalise(images, _extents(images)).contiguous()
    del images
    protocol = protocol_of(task)
    if task == SINGLE:
        return lambda: _labels(model(x))
    return lambda: plain_loop(model, x, protocol)


def plain_loop(model: DeepLabV3Plus, x: Tensor, protocol: Protocol) -> Tensor:
    """Multi-scale + flip as most projects write it."""
    size = x.shape[-2:]
    total = torch.zeros(len(x), model.num_classes, *size)
    for scale in protocol.scales:
        scaled_size = [int((side - 1) * scale + 1) for side in size]
        scaled = F.interpolate(x, scaled_size, mode="bilinear", align_corners=True)
        for mirrored in (False, True) if protocol.flip else (False,):
            logits = model(scaled.flip(-1) if mirrored else scaled)
            logits = logits.flip(-1) if mirrored else logits
            total += F.interpolate(logits, size, mode="bilinear", align_corners=True).softmax(1)
    return total.argmax(1)


def atrous_way(task: str, arguments: argparse.Namespace) -> Callable[[], Tensor]:
    """Return inference as `atrous.load(...).predict` runs it."""
    images = images_of(task, arguments)
    model, protocol = prepared(model_of(arguments, task), bf16=has_bf16("cpu")), protocol_of(task)
    return lambda: predict(model, INCEPTION.normalise(images, _extents(images)), protocol)


def peer_way(name: str, arguments: argparse.Namespace) -> Callable[[], Tensor] | None:
    """Return another library's network on the same images, or None where it cannot be imported."""
    images = images_of(SINGLE, arguments)
    x = INCEPTION.normalise(images, _extents(images)).contiguous()
    if name == "torchvision":
        try:
            from torchvision.models.segmentation import deeplabv3_resnet50  # type: ignore
        except (ImportError, RuntimeError):  # a torchvision of another build of torch raises the latter
            return None
        theirs = deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=21).eval()
        return lambda: _labels(theirs(x)["out"])
    try:
        import segmentation_models_pytorch as smp  # type: ignore
    except (ImportError, RuntimeError):
        return None
    # Its decoder wants sides that are multiples of 16.
    cut = x[..., : arguments.size // 16 * 16, : arguments.size // 16 * 16].contiguous()
    network = smp.DeepLabV3Plus("resnet50", encoder_weights=None, classes=21).eval()
    return lambda: _labels(network(cut))


def measure(arguments: argparse.Namespace) -> Figures:
    """Time one way in this process."""
    name, task = arguments.only, arguments.task
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
    command = [sys.executable, str(Path(__file__).resolve()), "--only", name, "--task", task]
    steps = 1 if task == STREET else arguments.steps
    for option, value in (
        ("backbone", arguments.backbone),
        ("size", arguments.size),
        ("batch", arguments.batch),
        ("steps", steps),
    ):
        command += [f"--{option}", str(value)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    figures: Figures = json.loads(output.splitlines()[-1])
    return figures


def ratios(measured: dict[str, list[Figures]], key: str) -> dict[str, float]:
    """How often smaller ours is than the plain way: the median over the turns, their range, and smallest to smallest.

    The last one is what a machine without other work would show: nothing makes a run faster than it is.
    """
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


def run_all(arguments: argparse.Namespace) -> Figures:
    """Let the ways take turns at every task."""
    result: Figures = {"peak": {str(dtype): convolution_peak(dtype) for dtype in (torch.float32, torch.bfloat16)}}
    for task in (SINGLE, MULTI_SCALE, STREET):
        names = [PLAIN, ATROUS, *(PEERS if task == SINGLE else ())]
        measured: dict[str, list[Figures]] = {name: [] for name in names}
        for turn in range(1 if task == STREET else arguments.repeats):
            for name in names if turn % 2 == 0 else names[::-1]:
                measured[name].append(in_process(name, task, arguments))
        result[task] = {
            "measured": measured,
            "operations": operations(task, arguments),
            "speedup": ratios(measured, "seconds"),
            "memory": ratios(measured, "peak_mib"),
        }
    return result


def table_of(result: Figures, *, title: str) -> Table:
    """Lay the figures out."""
    table = Table(title=title)
    for column in ("task", "way", "s", "min - max", "GFLOP/s", "MiB", "plain / atrous (range)", "fastest"):
        table.add_column(column, justify="left" if column in ("task", "way") else "right", no_wrap=True)
    for task in (SINGLE, MULTI_SCALE, STREET):
        ratio = result[task]["speedup"]
        for name, turns in result[task]["measured"].items():
            seconds = [second for turn in turns for second in turn["seconds"]]
            if not seconds:
                table.add_row(task, name, "not importable")
                continue
            median = statistics.median(seconds)
            rate = f"{result[task]['operations'] / median / 1e9:.0f}" if name in (PLAIN, ATROUS) else ""
            times = f"{ratio['median']:.2f}x ({ratio['min']:.2f} - {ratio['max']:.2f})" if name == ATROUS else ""
            fastest = f"{ratio['of_the_least']:.2f}x" if name == ATROUS else ""
            spread = f"{min(seconds):.2f} - {max(seconds):.2f}"
            table.add_row(
                task, name, f"{median:.2f}", spread, rate, str(max(turn["peak_mib"] for turn in turns)), times
            )
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
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure here too")
    parser.add_argument("--only", choices=(PLAIN, ATROUS, *PEERS), help="measure this one here and print JSON")
    parser.add_argument("--task", choices=(SINGLE, MULTI_SCALE, STREET), default=SINGLE, help="with --only")
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(measure(arguments)))
        return
    result = run_all(arguments)
    console = Console(width=None if sys.stdout.isatty() else 140)
    size = f"{arguments.size}x{arguments.size}"
    console.print(table_of(result, title=f"DeepLabv3+ {arguments.backbone}, OS16, {size}, batch {arguments.batch}"))
    memory = 100 / result[STREET]["memory"]["median"]
    console.print(f"memory of multi-scale + flip at 1024x2048: {memory:.0f}% of the plain loop's")
    peaks = ", ".join(f"{name.removeprefix('torch.')} {rate / 1e9:.0f}" for name, rate in result["peak"].items())
    console.print(f"convolution peak measured before, GFLOP/s: {peaks}; threads: {torch.get_num_threads()}")
    if arguments.json:
        facts = {key: value for key, value in vars(arguments).items() if key not in ("json", "only", "task")}
        arguments.json.write_text(json.dumps({**facts, **result, "torch": torch.__version__}, indent=1) + "\n")


def _labels(logits: Tensor) -> Tensor:
    return logits.argmax(1)


def _extents(images: Tensor) -> Tensor:
    return torch.tensor([tuple(images.shape[-2:])] * len(images))


def _least(value: float | list[float]) -> float:
    return min(value) if isinstance(value, list) else value


def _median(value: float | list[float]) -> float:
    return statistics.median(value) if isinstance(value, list) else value


if __name__ == "__main__":
    main()
