"""Images per second of an evaluation, as atrous-evaluate scores a data set, against a plain loop.

    python -m benchmarks.evaluation --backbone resnet50 --size 513 --images 16

Both read the same decoded images of `shapes`, run the same network at output stride 16 and count a confusion matrix.
The plain loop is what most projects write: a DataLoader of normalised float images, logits at full size, argmax, a
bincount; atrous also gives every image's own matrix and intervals by bootstrap.
"""

import argparse
import json
import os
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from benchmarks.command import add_common_options, finish_each, positive, run
from benchmarks.figures import Figures, Spread, middle, ratio
from benchmarks.networks import paper_network
from benchmarks.section import Section
from benchmarks.turns import in_process, take_turns
from torch.utils.data import DataLoader, Dataset

from atrous import hardware
from atrous.data.decoded import Decoded
from atrous.data.preprocessing import INCEPTION
from atrous.data.shapes import SHAPES_SPEC, Shapes
from atrous.evaluation.evaluate import evaluate
from atrous.evaluation.protocol import Protocol
from atrous.studies.job_process import process_environment
from atrous.training import machine

PLAIN, ATROUS = "plain PyTorch", "atrous-evaluate"


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is scored: images of `size` x `size` pixels, so many, `batch` at a time, decoded in `folder`."""

    backbone: str
    size: int
    images: int
    batch: int
    folder: str

    def dataset(self) -> Decoded:
        """The images, decoded before the clock starts."""
        return Decoded(Shapes(split="val", size=self.size, length=self.images), folder=self.folder, num_workers=1)


class _Floats(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    def __init__(self, dataset: Decoded) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        pixels, label = self.dataset.read(index)
        image_1CHW = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]
        image = INCEPTION.normalise(image_1CHW, torch.tensor([pixels.shape[:2]]))[0].contiguous()
        return image, torch.from_numpy(label.astype("int64"))


def plain(model: torch.nn.Module, dataset: Decoded, *, batch: int) -> int:
    """Score by a plain loop; return the number of pixels counted."""
    classes = SHAPES_SPEC.num_classes
    matrix = torch.zeros(classes * classes, dtype=torch.int64)
    with torch.no_grad():
        for images, labels in DataLoader(_Floats(dataset), batch):
            found = model(images).argmax(1)
            valid = labels != SHAPES_SPEC.ignore_label
            matrix += torch.bincount(labels[valid] * classes + found[valid], minlength=classes * classes)
    return int(matrix.sum())


def measure(name: str, work: Work) -> Figures:
    """Score once in this process, after the first batch has warmed the network up."""
    torch.manual_seed(0)
    model = paper_network(work.backbone, num_classes=SHAPES_SPEC.num_classes).eval()
    dataset = work.dataset()
    with torch.no_grad():
        model(torch.zeros(work.batch, 3, work.size, work.size))
    start = time.perf_counter()
    if name == PLAIN:
        pixels = plain(model, dataset, batch=work.batch)
    else:
        precision = hardware.resolve_precision("auto", "cpu")
        feeding: dict[str, Any] = {"batch_size": work.batch, "autocast": machine.autocast_dtype(precision)}
        options: dict[str, Any] = {"padded_size": None, "preprocessing_name": "inception"}
        pixels = int(evaluate(model, dataset, Protocol(), **options, **feeding)["pixels"])
    return {"seconds": time.perf_counter() - start, "pixels": pixels}


def evaluation_section(arguments: argparse.Namespace) -> Section:
    """Let both take turns."""
    facts = {key: getattr(arguments, key) for key in ("backbone", "size", "images", "batch")}
    with tempfile.TemporaryDirectory(prefix="atrous-evaluation-") as folder:
        request = {**facts, "folder": folder}
        Work(**request).dataset()

        def in_own(name: str) -> Figures:
            environment = process_environment(os.environ, {"threads": 0, "devices": 1}) if name == ATROUS else None
            return in_process("benchmarks.evaluation", {"name": name, "work": request}, environment=environment)

        both = take_turns([PLAIN, ATROUS], in_own, repeats=arguments.repeats)
    measured = both.measured
    gain = ratio(measured, PLAIN, ATROUS).text() if len(measured) == 2 else ""
    rows = []
    for name, turns in measured.items():
        speeds = Spread.of([arguments.images / middle(turn, "seconds") for turn in turns])
        rows.append([name, speeds.text(""), str(turns[0]["pixels"]), gain if name == ATROUS else ""])
    return Section(
        key="evaluation",
        title=f"Evaluation, DeepLabv3+ {arguments.backbone}, {arguments.size}x{arguments.size}",
        text=(
            f"{arguments.images} decoded images, batch {arguments.batch}, output stride 16, single scale. "
            f"Load average meanwhile: {both.load}."
        ),
        columns=("way", "images/s (range over turns)", "pixels counted", "times as fast (range)"),
        rows=rows,
        died=both.died,
        figures={"setting": facts, "measured": measured},
    )


def main() -> None:
    """Run the benchmark and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    backbones = ("resnet18", "resnet34", "resnet50", "resnet101", "xception65")
    parser.add_argument("--backbone", default="resnet50", choices=backbones, help="default: %(default)s")
    parser.add_argument("--size", type=positive, default=513, help="height and width of an image (%(default)s)")
    parser.add_argument("--images", type=positive, default=16, help="images that are scored (%(default)s)")
    parser.add_argument("--batch", type=positive, default=2, help="images at a time (%(default)s)")
    parser.add_argument("--measure", type=json.loads, help=argparse.SUPPRESS)
    add_common_options(parser)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure["name"], Work(**arguments.measure["work"]))))
        return
    finish_each([partial(evaluation_section, arguments)], arguments)


if __name__ == "__main__":
    run(main)
