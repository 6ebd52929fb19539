"""What most projects write to load segmentation crops: the pipelines that the loader is measured against."""

import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations
import cv2
import numpy as np
import torch
from albumentations.pytorch import ToTensorV2
from benchmarks.peers import PeerMissingError, import_peer
from PIL import Image
from torch.utils.data import DataLoader, Dataset, RandomSampler

from atrous.data.dataset import SegmentationDataset
from atrous.data.files import Pixels
from atrous.data.loading import bound_threads

Read = Callable[[str], Pixels]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def image_with_cv2(path: str) -> Pixels:
    """Decode an image with OpenCV."""
    return np.asarray(cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB), np.uint8)  # type: ignore[arg-type]


def image_with_pillow(path: str) -> Pixels:
    """Decode an image with Pillow."""
    return np.array(Image.open(path).convert("RGB"))


def mask_with_pillow(path: str) -> Pixels:
    """Decode a mask; of a palette PNG, OpenCV would give the colours."""
    return np.array(Image.open(path))


class Files(Dataset[dict[str, Any]]):
    """The usual data set: decode both files, then transform the whole image.

    Args:
        files: image and mask of each sample.
        image: decodes an image.
        table: label of each value of a mask, when the masks do not hold labels.
        transform: takes and returns `image` and `mask`.
    """

    def __init__(
        self,
        *,
        files: list[tuple[str, str]],
        image: Read,
        table: Pixels | None,
        transform: Callable[..., dict[str, Any]],
    ) -> None:
        self.files, self.image, self.table, self.transform = files, image, table, transform

    def __len__(self) -> int:
        """Number of images."""
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Read and transform one image."""
        image, mask = self.files[index]
        label = mask_with_pillow(mask)
        if self.table is not None:
            label = np.asarray(cv2.LUT(label, self.table), np.uint8)
        return self.transform(image=self.image(image), mask=label)


class DecodeOnly(Dataset[int]):
    """Reads and decodes and returns nothing to speak of: the machine's limit.

    Args:
        dataset: what is read.
    """

    def __init__(self, dataset: SegmentationDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        """Number of images."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> int:
        """Read one pair."""
        self.dataset.read(index)
        return index


def albumentations_compose(crop: int) -> Callable[..., dict[str, Any]]:
    """Return the usual Compose of albumentations."""
    compose: Callable[..., dict[str, Any]] = albumentations.Compose(
        [
            albumentations.RandomScale(scale_limit=(-0.5, 1.0), p=1),
            albumentations.PadIfNeeded(crop, crop, border_mode=cv2.BORDER_CONSTANT, fill=127, fill_mask=255),
            albumentations.RandomCrop(crop, crop),
            albumentations.HorizontalFlip(p=0.5),
            albumentations.Normalize(mean=MEAN, std=STD),
            ToTensorV2(),
        ]
    )
    return compose


def why_no_torchvision() -> str | None:
    """Say why torchvision's transforms cannot be measured here; None when they can."""
    try:
        import_peer("torchvision.transforms.v2")
    except PeerMissingError as error:
        return f"{error}: its row is left out"
    return None


class TorchvisionCompose:
    """The usual Compose of torchvision's second version of its transforms, on tensors.

    Args:
        crop: height and width of a crop.
        size: (height, width) that scale 1 stands for.
    """

    def __init__(self, crop: int, size: tuple[int, int]) -> None:
        tv_tensors = import_peer("torchvision.tv_tensors")
        v2 = import_peer("torchvision.transforms.v2")
        fill = {tv_tensors.Image: 127, tv_tensors.Mask: 255}
        self._image, self._mask = tv_tensors.Image, tv_tensors.Mask
        self._compose = v2.Compose(
            [
                v2.ScaleJitter(target_size=size, scale_range=(0.5, 2.0), antialias=False),
                v2.RandomCrop(crop, pad_if_needed=True, fill=fill),
                v2.RandomHorizontalFlip(p=0.5),
                v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
                v2.Normalize(mean=MEAN, std=STD),
            ]
        )

    def __call__(self, *, image: Pixels, mask: Pixels) -> dict[str, Any]:
        """Transform one image and its mask."""
        pixels = self._image(torch.from_numpy(image).permute(2, 0, 1))
        result = self._compose(pixels, self._mask(torch.from_numpy(mask)))
        return {"image": result[0], "mask": result[1]}


def peer_loader(samples: Dataset[Any], *, batch: int, images: int, workers: int) -> DataLoader[Any]:
    """Return PyTorch's loader over samples in random order, its workers bound to one thread each as ours are."""
    order = RandomSampler(range(len(samples)), replacement=True, num_samples=images)  # type: ignore[arg-type]
    return DataLoader(samples, batch, sampler=order, num_workers=workers, worker_init_fn=bound_threads)
