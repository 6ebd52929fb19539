"""Images per second of the training loader alone, against what most projects write.

    python -m benchmarks.loader --root <folder that holds VOCdevkit> --workers 1 2

All rows read the same files, cut crops (scale 0.5 to 2, flip) and use the same number of workers with the same thread
bounds. `voc` reads JPEGs at crop 513; `street` reads 1024x2048 PNGs at crop 769, which are made from photographs in a
temporary folder. The peers deliver normalised float batches; ours delivers bytes and normalises on the device: the row
"normalised" adds that work in the main process, on the CPU. "Decode only" is the machine's limit: nothing but reading
and decoding. Repeats are interleaved, and ratios are taken within a repeat: a busy machine slows all rows alike.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import torch
from benchmarks.command import add_common_options, finish, positive, run
from benchmarks.figures import Spread
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
from benchmarks.section import Section
from benchmarks.street_scenes import HEIGHT, WIDTH, make_street_scenes
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
_BATCHES = {"voc": 8, "street": 4}


def left_out(workers: int) -> int:
    """The batches that are not timed: each worker has prefetched two of them when the clock would start."""
    return 1 + 2 * workers


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
    for _ in range(repeats):
        for name, make in makers.items():
            speeds[name].append(
                images_per_second(make(), batch, warm_up=left_out(workers), normalise=name == NORMALISED)
            )
    return speeds


def section_of(speeds: dict[str, list[float]], *, key: str, title: str) -> Section:
    """Lay the figures out: median, spread over the repeats, and how often faster ours is, without and with cache."""
    rows = []
    for name, values in speeds.items():
        gains = [_gain(speeds[row], values).text() for row in (OURS, CACHED)]
        rows.append([name, Spread.of(values).text("", digits=0), *gains])
    return Section(
        key=key,
        title=title,
        text="Images per second; rows take turns within a repeat, and ratios are taken there.",
        columns=("pipeline", "images/s (range)", "atrous is faster by (range)", "with the cache by (range)"),
        rows=rows,
        notes=[reason] if (reason := why_no_torchvision()) is not None else [],
        figures={"images_per_second": speeds},
    )


def _gain(ours: list[float], theirs: list[float]) -> Spread:
    return Spread.of([mine / other for mine, other in zip(ours, theirs, strict=True)])


def measure_set(dataset: PairList, arguments: argparse.Namespace, *, folder: Path, title: str, **sizes: int) -> None:
    """Measure a data set with each number of workers; one section for each, finished before the next one."""
    cached = Decoded(dataset, folder=folder / "decoded")
    for workers in arguments.workers:
        makers = loaders(dataset, cached, arguments, workers=workers, **sizes)
        speeds = measure(makers, repeats=arguments.repeats, batch=sizes["batch"], workers=workers)
        whole = f"Loader: {title}, crop {sizes['crop']}, {workers} worker{'s' * (workers > 1)}"
        finish(section_of(speeds, key=f"loader_{dataset.spec.name}_{workers}", title=whole), arguments)


def main() -> None:
    """Run the benchmark and print one table per data set and number of workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="folder that holds VOCdevkit, or VOC2012 itself")
    parser.add_argument("--split", default="train_aug", help="train, train_aug, val or trainval")
    parser.add_argument("--data", nargs="+", default=["voc", "street"], choices=["voc", "street"])
    parser.add_argument("--workers", type=positive, nargs="+", default=[1, 2], help="loader processes, one table each")
    parser.add_argument("--images", type=positive, default=240, help="images per repeat")
    parser.add_argument("--scenes", type=positive, default=24, help="street scenes that are made")
    add_common_options(parser, repeats=5)
    arguments = parser.parse_args()
    most = max(arguments.workers)
    least = (left_out(most) + 1) * max(_BATCHES[name] for name in arguments.data)
    if arguments.images < least:
        parser.error(f"--images={arguments.images}: {most} workers want {least}, the first batches are not timed")
    cv2.setNumThreads(0)
    torch.set_num_threads(1)  # of the main process, whose threads would wait where the workers work
    voc = VOC2012(root=arguments.root, split=arguments.split)
    with tempfile.TemporaryDirectory(prefix="atrous-loader-") as name:
        folder = Path(name)
        if "voc" in arguments.data:
            title = f"{len(voc)} JPEGs of VOC 2012 {arguments.split}"
            measure_set(voc, arguments, folder=folder, title=title, crop=513, batch=_BATCHES["voc"])
        if "street" in arguments.data:
            megabytes = make_street_scenes(folder, voc, count=arguments.scenes)
            streets = Cityscapes(root=folder, split="train")
            title = f"{len(streets)} PNGs of {HEIGHT}x{WIDTH}, {megabytes:.1f} MB each"
            measure_set(streets, arguments, folder=folder, title=title, crop=769, batch=_BATCHES["street"])


if __name__ == "__main__":
    run(main)
