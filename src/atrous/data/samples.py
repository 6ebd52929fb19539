"""Samples of a data set as bytes, written once to the memory that is sent, channels last as networks want them."""

import math
from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from atrous.data.augmentation import CropConfig, draw, generator_of
from atrous.data.dataset import PairList, SegmentationDataset
from atrous.data.files import Pixels
from atrous.data.sampling import Item
from atrous.data.window import Crop, CropWindow, apply, rows_shown
from atrous.errors import ConfigError, DataError

IntArray = NDArray[np.integer[Any]]


class Sample(TypedDict):
    """One sample, or a batch of them with a leading dimension N.

    Keys:
        image: uint8 [3, H, W], RGB; stored channels last.
        label: uint8 [H, W].
        extent: int32 [2], (height, width) of the real content at the top left; the rest is padding.
        index: int64, position in the data set.
    """

    image: Tensor
    label: Tensor
    extent: Tensor
    index: Tensor


class Batch:
    """Samples that lie in one memory: a sequence of them to PyTorch's own collate, a whole to `loading.as_is`.

    Args:
        whole: the samples with their leading dimension N.
    """

    def __init__(self, whole: Sample) -> None:
        self.whole = whole

    def __len__(self) -> int:
        """N."""
        return len(self.whole["index"])

    def __getitem__(self, place: int) -> Sample:
        """The sample at a place, without the leading dimension."""
        image, label, extent, index = (self.whole[key][place] for key in ("image", "label", "extent", "index"))
        return Sample(image=image, label=label, extent=extent, index=index)


class TrainSamples(Dataset[Sample]):
    """Augmented training crops, indexed by (epoch, index); each is a pure function of (seed, epoch, index).

    PyTorch's DataLoader takes them with a `batch_sampler` that yields such pairs: `sampling.KeyedBatchSampler`.

    Args:
        dataset: the images.
        augmentation: what is random about a crop.
        seed: key of all draws.
        transforms: further albumentations transforms, applied to the content of the crop.
    """

    def __init__(
        self,
        *,
        dataset: SegmentationDataset,
        augmentation: CropConfig,
        seed: int,
        transforms: Sequence[object] = (),
    ) -> None:
        self.dataset, self.augmentation, self.seed = dataset, augmentation, seed
        self._after = None
        if transforms:
            from atrous.data.compose import AfterCrop

            self._after = AfterCrop(transforms)

    def __len__(self) -> int:
        """Images per epoch."""
        return len(self.dataset)

    def __getitem__(self, item: Item) -> Sample:
        """Read image `index` and cut the crop of `epoch` out of it."""
        return self.__getitems__([item])[0]

    def __getitems__(self, items: Sequence[Item]) -> Batch:
        """Return a batch (PyTorch's hook for it), whose crops are written straight to the memory that is sent."""
        return Batch(self.fill(items, empty_batch(len(items), self.augmentation.crop_size)))

    def fill(self, items: Sequence[Item], batch: Sample) -> Sample:
        """Write the crops of `items` to the memory of `batch`, all of it, and return it.

        Raises:
            ConfigError: an item has no epoch.
        """
        if any(isinstance(item, int) for item in items):
            raise ConfigError(f"TrainSamples are (epoch, index), not {items[0]}: batch_sampler=KeyedBatchSampler(...)")
        images_NHWC, labels, extents, indices = arrays_of(batch)
        for place, (epoch, index) in enumerate(items):
            crop = self._cut(epoch, index, into=(images_NHWC[place], labels[place]))
            extents[place], indices[place] = crop.extent, index
        return batch

    def _cut(self, epoch: int, index: int, *, into: tuple[Pixels, Pixels]) -> Crop:
        rng = generator_of(self.seed, epoch, index)
        image, label, window = self._read(index, rng)
        crop = apply(image, label, window, ignore_label=self.dataset.spec.ignore_label, into=into)
        return crop if self._after is None else self._after(crop, rng)

    def _read(self, index: int, rng: np.random.Generator) -> tuple[Pixels, Pixels, CropWindow]:
        """Read a sample and draw its window; of an image that is a file, only the rows that the window needs."""
        dataset = self.dataset
        if isinstance(dataset, PairList) and type(dataset).read is PairList.read:
            label = dataset.read_label(index)
            window = draw(rng, label.shape[0], label.shape[1], self.augmentation)
            return dataset.read_top(index, label, rows=rows_shown(window, *label.shape)), label, window
        image, label = dataset.read(index)
        return image, label, draw(rng, label.shape[0], label.shape[1], self.augmentation)


class EvaluationSamples(Dataset[Sample]):
    """Whole images, padded at the bottom and right to what the network takes; labels are padded with "ignored".

    Args:
        dataset: the images.
        padded_size: (height, width) to pad to, or None for the next k * output_stride + 1 of each axis
            that is longer than one stride.
        output_stride: used when padded_size is None.
    """

    def __init__(
        self, *, dataset: SegmentationDataset, padded_size: tuple[int, int] | None = None, output_stride: int = 16
    ) -> None:
        self.dataset, self.padded_size, self.output_stride = dataset, padded_size, output_stride

    def __len__(self) -> int:
        """Number of images."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        """Read and pad image `index`."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Return a batch (PyTorch's hook for it).

        Raises:
            DataError: an image is larger than padded_size, or the images of the batch are padded to several sizes.
        """
        pairs = [self.dataset.read(index) for index in indices]
        sizes = {self.size_for(label.shape[0], label.shape[1]) for _, label in pairs}
        if len(sizes) > 1:
            raise DataError(
                f"one batch holds images of sizes {sorted(sizes)} (height, width); set data.evaluation_size to pad all "
                "to one size, or data.val_batch_size=1"
            )
        size = sizes.pop()
        batch = empty_batch(len(indices), size)
        images_NHWC, labels, extents, positions = arrays_of(batch)
        images_NHWC.fill(0)
        labels.fill(self.dataset.spec.ignore_label)
        for place, (index, (image, label)) in enumerate(zip(indices, pairs, strict=True)):
            rows, columns = self._check_fits(label, size, index)
            images_NHWC[place, :rows, :columns] = image
            labels[place, :rows, :columns] = label
            extents[place], positions[place] = (rows, columns), index
        return Batch(batch)

    def size_for(self, height: int, width: int) -> tuple[int, int]:
        """Return the padded (height, width) of an image of the given size."""
        return self.padded_size or (aligned(height, self.output_stride), aligned(width, self.output_stride))

    def _check_fits(self, label: Pixels, size: tuple[int, int], index: int) -> tuple[int, int]:
        rows, columns = label.shape[0], label.shape[1]
        if rows > size[0] or columns > size[1]:
            raise DataError(
                f"image {self.dataset.sample_id(index)!r} of {self.dataset.spec.name!r} is {rows}x{columns} "
                f"(height x width), larger than the padded evaluation size {size[0]}x{size[1]}; raise "
                "data.evaluation_size or set it to null"
            )
        return rows, columns


def aligned(side: int, output_stride: int) -> int:
    """Return the next k * output_stride + 1; a side within one stride has one cell anyway and stays as it is."""
    return side if side <= output_stride else -(-(side - 1) // output_stride) * output_stride + 1


def empty_batch(n: int, size: tuple[int, int]) -> Sample:
    """Allocate a batch of n samples; in a loader process, in memory that the training process can read as it is."""
    return Sample(
        image=_empty((n, *size, 3), torch.uint8).permute(0, 3, 1, 2),
        label=_empty((n, *size), torch.uint8),
        extent=_empty((n, 2), torch.int32),
        index=_empty((n,), torch.int64),
    )


def arrays_of(batch: Sample) -> tuple[Pixels, Pixels, IntArray, IntArray]:
    """Return image [N, H, W, 3], label, extent and index as arrays that share the batch's memory."""
    images_NHWC: Pixels = batch["image"].permute(0, 2, 3, 1).numpy()
    return images_NHWC, batch["label"].numpy(), batch["extent"].numpy(), batch["index"].numpy()


def _empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    if get_worker_info() is None:
        return torch.empty(shape, dtype=dtype)
    # As PyTorch's own collate does: memory that is not shared from the start is copied when it is sent.
    size = math.prod(shape) * dtype.itemsize
    shared: torch.UntypedStorage = torch.UntypedStorage._new_shared(size)  # type: ignore[no-untyped-call]
    return torch.empty(0, dtype=dtype).set_(shared).view(shape)
