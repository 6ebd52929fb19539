"""Images per second of the training loader alone, against the plain albumentations pipeline.

    python benchmarks/loader.py --root <folder that holds VOCdevkit> --workers 1 2

Both read the same files, cut 513x513 crops (scale 0.5 to 2, flip) and use the same number of workers with the same
thread bounds. The plain pipeline is what most projects write: RandomScale, PadIfNeeded, RandomCrop, HorizontalFlip,
Normalize and ToTensorV2 on whole images, float batches. Ours delivers bytes and normalises on the device; the row
"normalised" adds that work in the main process, on the CPU. "Decode only" is the machine's limit: nothing but reading
and decoding. Repeats are interleaved, so that a busy machine slows all rows alike.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations
import cv2
import numpy as np
from albumentations.pytorch import ToTensorV2
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader, Dataset, RandomSampler

from atrous.data.augmentation import CropConfig
from atrous.data.files import Pixels
from atrous.data.loading import TrainSamples, bound_threads, train_loader
from atrous.data.preprocessing import IMAGENET
from atrous.data.sampling import KeyedBatchSampler
from atrous.data.voc import VOC2012

Read = Callable[[str, str], tuple[Pixels, Pixels]]
OURS, NORMALISED, DECODE = "atrous", "atrous, normalised", "atrous, decode only"
PLAIN_CV2, PLAIN_PIL = "plain, cv2 decode", "plain, PIL decode"


def read_with_cv2(image: str, mask: str) -> tuple[Pixels, Pixels]:
    """Decode the JPEG with OpenCV; the palette PNG needs Pillow, OpenCV would give colours."""
    pixels = cv2.cvtColor(cv2.imread(image), cv2.COLOR_BGR2RGB)  # type: ignore[arg-type]
    return np.asarray(pixels, np.uint8), np.array(Image.open(mask))


def read_with_pil(image: str, mask: str) -> tuple[Pixels, Pixels]:
    """Decode both files with Pillow."""
    return np.array(Image.open(image).convert("RGB")), np.array(Image.open(mask))


class PlainSamples(Dataset[dict[str, Any]]):
    """The usual data set: decode, then an albumentations Compose on the whole image."""

    def __init__(self, *, files: list[tuple[str, str]], crop: int, read: Read) -> None:
        """Build the usual Compose."""
        self.files, self.read = files, read
        self.transform = albumentations.Compose(
            [
                albumentations.RandomScale(scale_limit=(-0.5, 1.0), p=1),
                albumentations.PadIfNeeded(crop, crop, border_mode=cv2.BORDER_CONSTANT, fill=127, fill_mask=255),
                albumentations.RandomCrop(crop, crop),
                albumentations.HorizontalFlip(p=0.5),
                albumentations.Normalize(),
                ToTensorV2(),
            ]
        )

    def __len__(self) -> int:
        """Number of images."""
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Read and transform one image."""
        image, mask = self.read(*self.files[index])
        result: dict[str, Any] = self.transform(image=image, mask=mask)
        return result


class DecodeOnly(Dataset[int]):
    """Reads and decodes and returns nothing to speak of."""

    def __init__(self, dataset: VOC2012) -> None:
        """Keep the data set."""
        self.dataset = dataset

    def __len__(self) -> int:
        """Number of images."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> int:
        """Read one pair."""
        self.dataset.read(index)
        return index


def images_per_second(loader: DataLoader[Any], batch: int, *, warm_up: int, normalise: bool = False) -> float:
    """Time a pass; the first batches, which pay for starting the workers and were prefetched, are left out."""
    start = time.perf_counter()
    for step, samples in enumerate(loader):
        if normalise:
            IMAGENET.normalise(samples["image"], samples["extent"])
        if step + 1 == warm_up:
            start = time.perf_counter()
    return (len(loader) - warm_up) * batch / (time.perf_counter() - start)


def loaders(dataset: VOC2012, arguments: argparse.Namespace, workers: int) -> dict[str, Callable[[], DataLoader[Any]]]:
    """Return a maker of each row's loader."""
    batch, count = arguments.batch, arguments.images
    files = [(pair.image, pair.mask) for pair in dataset.pairs]

    def ours() -> DataLoader[Any]:
        samples = TrainSamples(
            dataset=dataset, augmentation=CropConfig(crop_size=(arguments.crop, arguments.crop)), seed=0
        )
        sampler = KeyedBatchSampler(length=len(dataset), batch_size=batch, max_steps=count // batch)
        return train_loader(samples, sampler, num_workers=workers, pin_memory=False)

    def other(samples: Dataset[Any]) -> DataLoader[Any]:
        order = RandomSampler(range(len(dataset)), replacement=True, num_samples=count // batch * batch)
        return DataLoader(samples, batch, sampler=order, num_workers=workers, worker_init_fn=bound_threads)

    return {
        OURS: ours,
        NORMALISED: ours,
        DECODE: lambda: other(DecodeOnly(dataset)),
        PLAIN_CV2: lambda: other(PlainSamples(files=files, crop=arguments.crop, read=read_with_cv2)),
        PLAIN_PIL: lambda: other(PlainSamples(files=files, crop=arguments.crop, read=read_with_pil)),
    }


def measure(dataset: VOC2012, arguments: argparse.Namespace, workers: int) -> dict[str, list[float]]:
    """Measure every row `repeats` times, one after the other in turn."""
    makers = loaders(dataset, arguments, workers)
    speeds: dict[str, list[float]] = {name: [] for name in makers}
    warm_up = 1 + 2 * workers  # each worker has prefetched two batches when the clock would start
    for _ in range(arguments.repeats):
        for name, make in makers.items():
            speeds[name].append(
                images_per_second(make(), arguments.batch, warm_up=warm_up, normalise=name == NORMALISED)
            )
    return speeds


def table_of(speeds: dict[str, list[float]], *, title: str) -> Table:
    """Lay the figures out: median, spread over the repeats, and how often faster ours is."""
    table = Table(title=title)
    for column in ("pipeline", "images/s", "min - max", "atrous is faster by"):
        table.add_column(column, justify="left" if column == "pipeline" else "right")
    for name, values in speeds.items():
        ratios = sorted(ours / value for ours, value in zip(speeds[OURS], values, strict=True))
        ratio = f"{statistics.median(ratios):.2f}x ({ratios[0]:.2f} - {ratios[-1]:.2f})"
        table.add_row(name, f"{statistics.median(values):.0f}", f"{min(values):.0f} - {max(values):.0f}", ratio)
    return table


def main() -> None:
    """Run the benchmark and print one table per number of workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="folder that holds VOCdevkit, or VOC2012 itself")
    parser.add_argument("--split", default="train_aug", help="train, train_aug, val or trainval")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="loader processes, one table each")
    parser.add_argument("--crop", type=int, default=513, help="height and width of a crop")
    parser.add_argument("--batch", type=int, default=8, help="crops per batch")
    parser.add_argument("--images", type=int, default=400, help="images per repeat")
    parser.add_argument("--repeats", type=int, default=5, help="passes of each pipeline")
    arguments = parser.parse_args()
    cv2.setNumThreads(0)
    dataset = VOC2012(root=arguments.root, split=arguments.split)
    for workers in arguments.workers:
        title = f"{len(dataset)} images of VOC 2012 {arguments.split}, crop {arguments.crop}, {workers} workers"
        Console().print(table_of(measure(dataset, arguments, workers), title=title))


if __name__ == "__main__":
    main()
