"""Memory of the training process and of its loader processes over many epochs of a small set; fails when it grows.

    python -m benchmarks.loader_memory --root <folder that holds VOCdevkit>

Counted is what the processes own and share (RssAnon + RssShmem), not files that the kernel keeps for them. The first
epochs fill caches and slots; after them, the medians of the first and the last ten epochs are compared.
"""

import argparse
import multiprocessing
import os
import re
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2

from atrous.data.augmentation import CropConfig
from atrous.data.dataset import SegmentationDataset
from atrous.data.decoded import Decoded
from atrous.data.loading import TrainSamples, train_loader
from atrous.data.sampling import KeyedBatchSampler
from atrous.data.voc import VOC2012

_WINDOW = 10  # epochs whose median is taken
_TOLERANCE = 1.02  # of the first ten; page tables and allocators breathe by less


def resident_mib(pid: int) -> float:
    """Return the memory that a process owns or shares, MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return sum(int(value) for value in re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+) kB", status, re.MULTILINE)) / 1024


def memory_of_epochs(dataset: SegmentationDataset, arguments: argparse.Namespace) -> Iterator[list[float]]:
    """Yield, after each epoch, the memory of the training process and of each loader process, MiB."""
    per_epoch = len(dataset) // arguments.batch
    samples = TrainSamples(dataset=dataset, augmentation=CropConfig(crop_size=(arguments.crop, arguments.crop)), seed=0)
    sampler = KeyedBatchSampler(length=len(dataset), batch_size=arguments.batch, max_steps=per_epoch * arguments.epochs)
    loader = train_loader(samples, sampler, num_workers=arguments.workers, pin_memory=False)
    for step, _ in enumerate(loader, start=1):
        if step % per_epoch == 0:
            workers = sorted(child.pid or 0 for child in multiprocessing.active_children())
            yield [resident_mib(pid) for pid in (os.getpid(), *workers)]


def main() -> int:
    """Print the memory of each epoch and return 1 if that of any process grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="folder that holds VOCdevkit, or VOC2012 itself")
    parser.add_argument("--images", type=int, default=64, help="images of the set")
    parser.add_argument("--epochs", type=int, default=50, help="at least 25")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--crop", type=int, default=513)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--cache", action="store_true", help="read from a decoded cache in a temporary folder")
    arguments = parser.parse_args()
    if arguments.epochs < 25 or arguments.images < arguments.batch:
        parser.error("--epochs wants at least 25, and --images at least one --batch")
    cv2.setNumThreads(0)
    dataset: SegmentationDataset = VOC2012(root=arguments.root, split="train_aug", limit=arguments.images)
    epochs = []
    with tempfile.TemporaryDirectory(prefix="atrous-memory-") as folder:
        if arguments.cache:
            dataset = Decoded(dataset, folder=folder)
        for epoch, mib in enumerate(memory_of_epochs(dataset, arguments)):
            epochs.append(mib)
            print(f"epoch {epoch:3d}: " + ", ".join(f"{value:7.1f}" for value in mib) + " MiB", flush=True)
    grown = False
    for place, values in enumerate(zip(*epochs, strict=True)):
        first, last = statistics.median(values[5 : 5 + _WINDOW]), statistics.median(values[-_WINDOW:])
        grown |= last > first * _TOLERANCE
        name = f"loader process {place}" if place else "training process"
        print(f"{name}: {first:.1f} MiB at first, {last:.1f} MiB at last ({100 * (last / first - 1):+.1f}%)")
    print("memory grows" if grown else "memory does not grow")
    return int(grown)


if __name__ == "__main__":
    sys.exit(main())
