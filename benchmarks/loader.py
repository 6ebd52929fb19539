"""Images per second of the training loader alone, against what most projects write.

    python -m benchmarks.loader --root <folder that holds VOCdevkit> --workers 1 2

All rows read the same files, cut crops (scale 0.5 to 2, flip) and use the same number of workers with the same thread
bounds. `voc` reads JPEGs at crop 513; `street` reads 1024x2048 PNGs at crop 769, which are made from photographs in a
temporary folder. The peers deliver normalised float batches; ours delivers bytes and normalises on the device: the row
"normalised" adds that work in the main process, on the CPU. "Decode only" is the machine's limit: nothing but reading
and decoding. Repeats are interleaved, and ratios are taken within a repeat: a busy machine slows all rows alike.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import torch
from benchmarks.loader_peers import (
    DecodeOnly,
    Files,
    TorchvisionCompose,
    albumentations_compose,
    image_with_cv2,
    image_with_pillow,
    peer_loader,
    why_no_torchvision,
)
from benchmarks.street_scenes import HEIGHT, WIDTH, make_street_scenes
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader

from atrous.data.augmentation import CropConfig
from atrous.data.cityscapes import Cityscapes
from atrous.data.cityscapes_labels import train_id_table
from atrous.data.dataset import PairList, SegmentationDataset
from atrous.data.decoded import Decoded
from atrous.data.loading import TrainSamples, train_loader
from atrous.data.preprocessing import IMAGENET
from atrous.data.sampling import KeyedBatchSampler
from atrous.data.voc import VOC2012

OURS, NORMALISED, CACHED, DECODE = "atrous", "atrous, normalised", "atrous, decoded cache", "atrous, decode only"

Makers = dict[str, Callable[[], DataLoader[Any]]]


def images_per_second(loader: DataLoader[Any], batch: int, *, warm_up: int, normalise: bool = False) -> float:
    """Time a pass; the first batches, which pay for starting the workers and were prefetched, are left out."""
    start = time.perf_counter()
    for step, samples in enumerate(loader):
        if normalise:
            IMAGENET.normalise(samples["image"], samples["extent"])
        if step + 1 == warm_up:
            start = time.perf_counter()
    return (len(loader) - warm_up) * batch / (time.perf_counter() - start)


def loaders(dataset: PairList, cached: SegmentationDataset, arguments: argparse.Namespace, **sizes: Any) -> Makers:
    """Return a maker of each row's loader."""
    crop, batch, workers = sizes["crop"], sizes["batch"], sizes["workers"]
    images = arguments.images // batch * batch
    files = [(pair.image, pair.mask or "") for pair in dataset.pairs]
    table = train_id_table() if isinstance(dataset, Cityscapes) else None

    def ours(source: SegmentationDataset) -> DataLoader[Any]:
        samples = TrainSamples(dataset=source, augmentation=CropConfig(crop_size=(crop, crop)), seed=0)
        sampler = KeyedBatchSampler(length=len(source), batch_size=batch, max_steps=images // batch)
        return train_loader(samples, sampler, num_workers=workers, pin_memory=False)

    def peer(decode: Any, transform: Any) -> DataLoader[Any]:
        samples = Files(files=files, image=decode, table=table, transform=transform)
        return peer_loader(samples, batch=batch, images=images, workers=workers)

    makers: Makers = {
        OURS: lambda: ours(dataset),
        NORMALISED: lambda: ours(dataset),
        CACHED: lambda: ours(cached),
        DECODE: lambda: peer_loader(DecodeOnly(dataset), batch=batch, images=images, workers=workers),
        "albumentations, cv2 decode": lambda: peer(image_with_cv2, albumentations_compose(crop)),
        "albumentations, PIL decode": lambda: peer(image_with_pillow, albumentations_compose(crop)),
    }
    if why_no_torchvision() is None:
        target = dataset.uniform_size or (crop, crop)
        makers["torchvision v2, PIL decode"] = lambda: peer(image_with_pillow, TorchvisionCompose(crop, target))
    return makers


def measure(makers: Makers, *, repeats: int, batch: int, workers: int) -> dict[str, list[float]]:
    """Measure every row `repeats` times, one after the other in turn."""
    speeds: dict[str, list[float]] = {name: [] for name in makers}
    warm_up = 1 + 2 * workers  # each worker has prefetched two batches when the clock would start
    for _ in range(repeats):
        for name, make in makers.items():
            speeds[name].append(images_per_second(make(), batch, warm_up=warm_up, normalise=name == NORMALISED))
    return speeds


def table_of(speeds: dict[str, list[float]], *, title: str) -> Table:
    """Lay the figures out: median, spread over the repeats, and how often faster ours is, without and with cache."""
    table = Table(title=title)
    for column in ("pipeline", "images/s", "min - max", "atrous is faster by", "with the cache by"):
        table.add_column(column, justify="left" if column == "pipeline" else "right", no_wrap=True)
    for name, values in speeds.items():
        ratios = [_spread(speeds[row], values) for row in (OURS, CACHED)]
        table.add_row(name, f"{statistics.median(values):.0f}", f"{min(values):.0f} - {max(values):.0f}", *ratios)
    return table


def _spread(ours: list[float], theirs: list[float]) -> str:
    ratios = sorted(mine / other for mine, other in zip(ours, theirs, strict=True))
    return f"{statistics.median(ratios):.2f}x ({ratios[0]:.2f} - {ratios[-1]:.2f})"


def report(dataset: PairList, arguments: argparse.Namespace, *, folder: Path, title: str, **sizes: int) -> None:
    """Measure a data set with each number of workers and print a table for each."""
    cached = Decoded(dataset, folder=folder / "decoded")
    console = Console(width=130)
    for workers in arguments.workers:
        makers = loaders(dataset, cached, arguments, workers=workers, **sizes)
        speeds = measure(makers, repeats=arguments.repeats, batch=sizes["batch"], workers=workers)
        console.print(table_of(speeds, title=f"{title}, crop {sizes['crop']}, {workers} worker{'s' * (workers > 1)}"))


def main() -> None:
    """Run the benchmark and print one table per data set and number of workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="folder that holds VOCdevkit, or VOC2012 itself")
    parser.add_argument("--split", default="train_aug", help="train, train_aug, val or trainval")
    parser.add_argument("--data", nargs="+", default=["voc", "street"], choices=["voc", "street"])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="loader processes, one table each")
    parser.add_argument("--images", type=int, default=240, help="images per repeat")
    parser.add_argument("--scenes", type=int, default=24, help="street scenes that are made")
    parser.add_argument("--repeats", type=int, default=5, help="passes of each pipeline")
    arguments = parser.parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)  # of the main process, whose threads would wait where the workers work
    if why_no_torchvision() is not None:
        print(why_no_torchvision())
    voc = VOC2012(root=arguments.root, split=arguments.split)
    with tempfile.TemporaryDirectory(prefix="atrous-loader-") as name:
        folder = Path(name)
        if "voc" in arguments.data:
            title = f"{len(voc)} JPEGs of VOC 2012 {arguments.split}"
            report(voc, arguments, folder=folder, title=title, crop=513, batch=8)
        if "street" in arguments.data:
            megabytes = make_street_scenes(folder, voc, count=arguments.scenes)
            streets = Cityscapes(root=folder, split="train")
            title = f"{len(streets)} PNGs of {HEIGHT}x{WIDTH}, {megabytes:.1f} MB each"
            report(streets, arguments, folder=folder, title=title, crop=769, batch=4)


if __name__ == "__main__":
    main()
