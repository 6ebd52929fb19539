"""The data of a run as Lightning takes it. The only file of this room that imports Lightning."""

from collections.abc import Sequence

import cv2
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from atrous.data.augmentation import CropConfig
from atrous.data.dataset import SegmentationDataset
from atrous.data.leakage import require_image_per_rank
from atrous.data.loading import EvaluationSamples, Loader, Sample, TrainSamples, evaluation_loader, train_loader
from atrous.data.sampling import KeyedBatchSampler, ShardSampler
from atrous.errors import ConfigError


class SegmentationDataModule(LightningDataModule):
    """Training crops by step and whole validation images, each once.

    Training is one endless epoch of micro-steps. To resume, set `start_step` to the number of micro-steps that are done
    before calling `fit(ckpt_path=...)`; the training loader then yields the rest, while its length stays max_steps, as
    Lightning's count of finished batches requires. Build the trainer with `use_distributed_sampler=False`: the ranks
    share the data here.

    Args:
        train: training images.
        val: validation images.
        crop_size: height and width of training crops, or one number for both.
        batch_per_device: crops per rank and micro-step.
        max_steps: micro-steps of the whole training (optimiser steps x accumulation).
        seed: key of the order and of every draw.
        start_step: first micro-step.
        scale_min: smallest scale factor.
        scale_max: largest scale factor.
        scale_step: 0 for the papers' continuous range, 0.25 for the released code's grid.
        flip_probability: chance of a left-right flip.
        transforms: further albumentations transforms, applied to the crop.
        evaluation_size: (height, width) that validation images are padded to, or None for each image's next
            k * output_stride + 1.
        output_stride: used when evaluation_size is None.
        val_batch_size: images per rank and validation batch.
        num_workers: loader processes per rank and loader; 0 loads in the training process.
        pin_memory: whether batches are put into page-locked memory (for CUDA).

    Raises:
        ConfigError: a value or a combination is impossible.
    """

    def __init__(
        self,
        *,
        train: SegmentationDataset,
        val: SegmentationDataset,
        crop_size: int | Sequence[int],
        batch_per_device: int,
        max_steps: int,
        seed: int = 0,
        start_step: int = 0,
        scale_min: float = 0.5,
        scale_max: float = 2.0,
        scale_step: float = 0.0,
        flip_probability: float = 0.5,
        transforms: Sequence[object] = (),
        evaluation_size: Sequence[int] | None = None,
        output_stride: int = 16,
        val_batch_size: int = 1,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        super().__init__()
        augmentation = CropConfig(
            crop_size=_pair(crop_size, key="crop_size"),
            scale_min=scale_min,
            scale_max=scale_max,
            scale_step=scale_step,
            flip_probability=flip_probability,
        )
        padded_size = None if evaluation_size is None else _pair(evaluation_size, key="evaluation_size")
        if padded_size is None and val_batch_size > 1 and val.uniform_size is None:
            raise ConfigError(
                f"val_batch_size={val_batch_size} needs images of one size, but those of {val.spec.name!r} differ; set "
                "evaluation_size to pad them, or val_batch_size=1"
            )
        self.train_samples = TrainSamples(dataset=train, augmentation=augmentation, seed=seed, transforms=transforms)
        self.val_samples = EvaluationSamples(dataset=val, padded_size=padded_size, output_stride=output_stride)
        self.batch_per_device, self.max_steps = batch_per_device, max_steps
        self.seed, self.start_step = seed, start_step
        self.val_batch_size, self.num_workers, self.pin_memory = val_batch_size, num_workers, pin_memory
        self._loaders: list[Loader] = []

    @property
    def replicas(self) -> tuple[int, int]:
        """(number of ranks, this rank), as the attached trainer says; (1, 0) without one."""
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer is not None else (1, 0)

    def setup(self, stage: str) -> None:
        """Keep OpenCV to one thread in this process too: cores belong to the workers and to torch.

        Raises:
            ConfigError: Lightning would replace the samplers by its own, which repeats images to even out the ranks, or
                a rank would have no image to validate on.
        """
        cv2.setNumThreads(0)
        connector = getattr(self.trainer, "_accelerator_connector", None)
        if self.replicas[0] > 1 and getattr(connector, "use_distributed_sampler", False):
            raise ConfigError(
                "trainer.use_distributed_sampler=True would repeat images on some ranks; build the Trainer with "
                "use_distributed_sampler=False (the data module shares the images itself)"
            )
        if self.trainer is not None and self.trainer.limit_val_batches != 0:
            require_image_per_rank(len(self.val_samples), ranks=self.replicas[0])

    def train_dataloader(self) -> DataLoader[Sample]:
        """Return the batches of micro-steps start_step to max_steps."""
        num_replicas, rank = self.replicas
        sampler = KeyedBatchSampler(
            length=len(self.train_samples),
            batch_size=self.batch_per_device,
            num_replicas=num_replicas,
            rank=rank,
            seed=self.seed,
            start_step=self.start_step,
            max_steps=self.max_steps,
        )
        loader = train_loader(self.train_samples, sampler, num_workers=self.num_workers, pin_memory=self.pin_memory)
        self._loaders.append(loader)
        return loader

    def val_dataloader(self) -> DataLoader[Sample]:
        """Return this rank's share of the validation images; each image is in exactly one share."""
        num_replicas, rank = self.replicas
        sampler = ShardSampler(length=len(self.val_samples), num_replicas=num_replicas, rank=rank)
        loader = evaluation_loader(
            self.val_samples,
            sampler,
            batch_size=self.val_batch_size,
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
        )
        self._loaders.append(loader)
        return loader

    def end_workers(self) -> None:
        """Stop the workers of all loaders, which a training that ended before its last step has left in its midst."""
        for loader in self._loaders:
            loader.end_workers()
        self._loaders.clear()


def _pair(size: int | Sequence[int], *, key: str) -> tuple[int, int]:
    values = (size, size) if isinstance(size, int) else tuple(size)
    if len(values) != 2 or min(values) < 1:
        raise ConfigError(f"{key}={size}: expected one positive number, or two as height, width")
    return values[0], values[1]
