"""How seconds and memory of a training step grow with what it is given, and the loader's speed with its workers.

    python -m benchmarks.scaling --size 257 --batch 2

Batch, crop, output stride, ranks and activation checkpointing are varied one at a time, DeepLabv3+ as shipped
otherwise. A straight line is fitted to seconds and memory over images, over pixels and over operations (what an output
stride changes); its r^2 says how straight the growth is. Ranks share the batch and the cores; the loader reads
`shapes`.
"""

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from benchmarks.command import add_common_options, finish_each, positive, run
from benchmarks.figures import Figures, Line, Spread, middle
from benchmarks.networks import PAPER, paper_network
from benchmarks.pictures import draw_lines
from benchmarks.section import Goal, Section
from benchmarks.steps import ATROUS, CHECKPOINTED, Setting, environment_of
from benchmarks.turns import in_process, take_turns

from atrous.data.augmentation import CropConfig
from atrous.data.loading import TrainSamples, train_loader
from atrous.data.sampling import KeyedBatchSampler
from atrous.data.shapes import Shapes
from atrous.networks.complexity import multiply_adds

_PICTURE = "scaling.png"
_STRAIGHT = 0.95  # r^2 of what grows as a line
_LOADER = 0.8  # of the workers' number, beside the process that takes the batches


@dataclass(frozen=True)
class Point:
    """A step that is measured: what is varied, its value, the setting, and what the fitted line takes as x."""

    varied: str
    value: str
    setting: Setting
    x: float
    manner: str = ATROUS
    ranks: int = 1


def points(base: Setting, *, batches: Sequence[int], sizes: Sequence[int], ranks: Sequence[int]) -> list[Point]:
    """Every point around a base setting."""
    found = [Point("batch", f"{n} images", replace(base, batch=n), n) for n in batches]
    found += [Point("crop", f"{n} pixels", replace(base, size=n), n * n) for n in sizes]
    for stride in (32, 16, 8):
        with torch.device("meta"):
            network = paper_network(base.backbone, stride)
        cost = 6 * multiply_adds(network, size=(base.size, base.size)).true * base.batch
        found.append(Point("output stride", f"{stride}", replace(base, output_stride=stride), cost))
    found += [Point("ranks", f"{n} (gloo)", base, n, ranks=n) for n in ranks if base.batch % n == 0]
    found.append(Point("activation checkpointing", "off", base, 0))
    found.append(Point("activation checkpointing", "on", base, 1, manner=CHECKPOINTED))
    return found


def measure(point: Point) -> Figures:
    """Measure a point in processes of its own; the ranks share the cores."""
    threads = max(1, len(os.sched_getaffinity(0)) // point.ranks) if point.ranks > 1 else 0
    environment = environment_of(point.manner, threads=threads)
    request = point.setting.request(PAPER, point.manner)
    return in_process("benchmarks.step_measurement", request, environment=environment, ranks=point.ranks)


def fits(measured: Sequence[tuple[Point, Sequence[Figures]]]) -> dict[str, dict[str, Line]]:
    """Lines of seconds and memory by what is varied, where at least three values were measured."""
    found = {}
    for varied in dict.fromkeys(point.varied for point, _ in measured):
        group = [(point.x, turns) for point, turns in measured if point.varied == varied]
        if len(group) >= 3:
            x = [x for x, _ in group]
            found[varied] = {
                key: Line.through(x, [Spread.of([middle(turn, key) for turn in turns]).median for _, turns in group])
                for key in ("seconds", "peak_mib")
            }
    return found


def step_section(base: Setting, all_points: Sequence[Point], *, repeats: int, out: Path | None) -> Section:
    """Measure the points and fit lines."""
    by_name = {f"{point.varied}: {point.value}": point for point in all_points}
    turns = take_turns(list(by_name), lambda name: measure(by_name[name]), repeats=repeats)
    measured = [(by_name[name], figures) for name, figures in turns.measured.items()]
    lines = fits(measured)
    rows = []
    for point, figures in measured:
        seconds = Spread.of([second for turn in figures for second in turn["seconds"]])
        memory = max(turn["peak_mib"] for turn in figures)
        speed = point.setting.batch / seconds.median
        rows.append([f"{point.varied}: {point.value}", seconds.text("", digits=3), f"{speed:.2f}", str(memory)])
    for varied, by_key in lines.items():
        seconds_fit, memory_fit = (f"{by_key[key].r_squared:.4f}" for key in ("seconds", "peak_mib"))
        rows.append([f"**r^2 of a line over {varied}**", seconds_fit, "", memory_fit])
    straight = [
        Goal(f"r^2 of a line over {varied}: {name}", Spread.of([by_key[key].r_squared]), at_least=_STRAIGHT, unit="")
        for varied, by_key in lines.items()
        for key, name in (("seconds", "seconds per step"), ("peak_mib", "memory"))
    ]
    picture = ""
    if out is not None:
        picture = _PICTURE
        draw_lines(out / _PICTURE, _panels(measured, lines))
    return Section(
        key="scaling",
        title=f"Growth of a step, DeepLabv3+ {base.backbone}",
        text=(
            f"Around {base.size}x{base.size}, batch {base.batch}, output stride 16, one rank. Load average "
            f"meanwhile: {turns.load}."
        ),
        columns=("", "s per step (range)", "images/s", "MiB (of the first rank)"),
        rows=rows,
        goals=straight,
        notes=["Lines are fitted over images, over pixels of a crop and over operations of an output stride."],
        died=turns.died,
        picture=picture,
        figures={
            "setting": asdict(base),
            "points": [{"varied": p.varied, "value": p.value, "x": p.x, "turns": f} for p, f in measured],
            "lines": {name: {key: asdict(line) for key, line in each.items()} for name, each in lines.items()},
        },
    )


def _panels(
    measured: Sequence[tuple[Point, Sequence[Figures]]], lines: dict[str, dict[str, Line]]
) -> list[tuple[str, str, list[tuple[float, float]], Line]]:
    """(x label, y label, points, line) of every panel."""
    units = {"batch": "images", "crop": "pixels", "output stride": "operations"}
    return [
        (
            f"{varied} ({units[varied]})",
            label,
            [(p.x, middle(t, key)) for p, f in measured for t in f if p.varied == varied],
            line,
        )
        for key, label in (("seconds", "s per step"), ("peak_mib", "MiB"))
        for varied, line in ((name, by_key[key]) for name, by_key in lines.items())
    ]


def loader_section(*, repeats: int, images: int, workers: Sequence[int]) -> Section:
    """Images per second of the training loader by workers, from the fewest on."""
    from benchmarks.loader import images_per_second, left_out

    batch, crop = 8, 257

    def speed(count: int) -> Figures:
        dataset = Shapes(split="train", size=crop)
        samples = TrainSamples(dataset=dataset, augmentation=CropConfig(crop_size=(crop, crop)), seed=0)
        sampler = KeyedBatchSampler(
            length=len(dataset), batch_size=batch, max_steps=max(1, images // batch) + left_out(count)
        )
        loader = train_loader(samples, sampler, num_workers=count, pin_memory=False)
        return {"images_per_second": images_per_second(loader, batch, warm_up=left_out(count))}

    names: dict[str, Callable[[], Figures]] = {f"{n}": lambda n=n: speed(n) for n in workers}  # type: ignore[misc]
    turns = take_turns(list(names), lambda name: names[name](), repeats=repeats).measured
    speeds = {name: Spread.of([middle(turn, "images_per_second") for turn in found]) for name, found in turns.items()}
    first = next(iter(speeds.values())).median
    fewest, most = str(workers[0]), str(workers[-1])
    of_each = [
        middle(of_most, "images_per_second") * workers[0] / (middle(of_fewest, "images_per_second") * workers[-1])
        for of_most, of_fewest in zip(turns[most], turns[fewest], strict=True)
    ]
    what = f"the loader's speed with {most} workers: of {most} times that with {fewest}"
    return Section(
        key="scaling_loader",
        title="The loader by workers",
        text=f"`shapes`, crop {crop}, which are drawn and not decoded: the cost of an image is the generator's.",
        columns=("workers", "images/s (range over turns)", "of one worker's"),
        rows=[[name, spread.text("", digits=0), f"{spread.median / first:.2f}x"] for name, spread in speeds.items()],
        goals=[Goal(what, Spread.of(of_each), at_least=_LOADER)] if fewest != most else [],
        figures={"images_per_second": {name: asdict(spread) for name, spread in speeds.items()}},
    )


def main() -> None:
    """Run the benchmark and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    backbones = ("resnet18", "resnet50", "resnet101", "xception65")
    parser.add_argument("--backbone", default="resnet50", choices=backbones, help="default: %(default)s")
    parser.add_argument("--size", type=positive, default=257, help="height and width of an image (%(default)s)")
    parser.add_argument("--batch", type=positive, default=2, help="images per step (%(default)s)")
    parser.add_argument("--steps", type=positive, default=3, help="measured steps per process (%(default)s)")
    parser.add_argument("--batches", type=positive, nargs="+", default=[2, 4, 6, 8], help="default: %(default)s")
    parser.add_argument("--sizes", type=positive, nargs="+", default=[129, 257, 385, 513], help="default: %(default)s")
    parser.add_argument("--ranks", type=positive, nargs="+", default=[1, 2], help="default: %(default)s")
    parser.add_argument("--images", type=positive, default=1200, help="images that the loader reads (%(default)s)")
    add_common_options(parser, repeats=2)
    arguments = parser.parse_args()
    base = Setting(
        backbone=arguments.backbone, size=arguments.size, batch=arguments.batch, steps=arguments.steps, warm_up=1
    )
    every = points(base, batches=arguments.batches, sizes=arguments.sizes, ranks=arguments.ranks)
    cores = len(os.sched_getaffinity(0))
    workers = sorted({1, *(2**power for power in range(1, cores.bit_length()) if 2**power <= cores), cores})
    sections = (
        partial(step_section, base, every, repeats=arguments.repeats, out=arguments.out),
        partial(loader_section, repeats=3, images=arguments.images, workers=workers),
    )
    finish_each(sections, arguments)


if __name__ == "__main__":
    run(main)
