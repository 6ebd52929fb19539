"""The LightningModule: one network, its loss, its optimiser and its score on val."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from atrous.data.preprocessing import Preprocessing
from atrous.data.spec import DatasetSpec
from atrous.evaluation.inference import predict
from atrous.evaluation.protocol import Protocol
from atrous.evaluation.scores import confusion_matrix, scores
from atrous.hardware import repeatable_kernels
from atrous.networks.segmenter import Segmenter
from atrous.training import batch_norm
from atrous.training.loss import segmentation_loss
from atrous.training.optimization import parameter_groups, sgd_with_poly

if TYPE_CHECKING:
    from atrous.data.loading import Sample  # a step needs no decoder

_SINGLE = Protocol()
_DROPOUT = 2  # the branch of the seed tree that the network's own draws use


class SegmentationTask(LightningModule):
    """Trains a network of `atrous.networks` by the papers' recipe.

    Args:
        model: the network, at the training's output stride.
        spec: classes and ignore label of the data.
        seed: of everything random in the step itself (dropout).
        max_steps: horizon of the poly schedule, in optimiser steps.
        preprocessing: name of the normalisation.
        optimizer: lr, momentum, weight_decay, bias_lr_multiplier, poly_power.
        freeze_batch_norm: whether statistics and affine parameters stay as they are.
        upsample_logits: see `segmentation_loss`.
        compiled: whether torch.compile makes the training's passes; validation, whose images have other sizes, runs
            as it is.
    """

    def __init__(
        self,
        *,
        model: Segmenter,
        spec: DatasetSpec,
        seed: int,
        max_steps: int,
        preprocessing: str,
        optimizer: Mapping[str, float],
        freeze_batch_norm: bool = False,
        upsample_logits: bool = True,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self._spec, self._seed, self._max_steps = spec, seed, max_steps
        self._preprocessing = Preprocessing.named(preprocessing)
        self._optimizer = dict(optimizer)
        self._freeze_batch_norm, self._upsample_logits = freeze_batch_norm, upsample_logits
        forward = model.low_resolution_logits
        self._training_logits: Callable[[Tensor], Tensor] = torch.compile(forward) if compiled else forward
        self._confusion = confusion_matrix(spec.num_classes, ignore_label=spec.ignore_label)
        if freeze_batch_norm:
            batch_norm.freeze(model)

    def train(self, mode: bool = True) -> SegmentationTask:
        """Change the mode; frozen batch norm stays frozen."""
        super().train(mode)
        if self._freeze_batch_norm:
            batch_norm.freeze(self.model)
        return self

    def normalise(self, batch: Sample) -> Tensor:
        """The network's input [N, 3, H, W] from a batch of bytes."""
        return self._preprocessing.normalise(batch["image"], batch["extent"])

    def on_train_batch_start(self, batch: Sample, batch_idx: int) -> None:
        """Key the network's own draws by (seed, step, rank): a resumed run draws the same."""
        key = np.random.SeedSequence(self._seed, spawn_key=(_DROPOUT, batch_idx, self.global_rank))
        torch.manual_seed(int(key.generate_state(1, np.uint64)[0] >> 1))

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """Mean cross-entropy of a batch over its valid pixels."""
        logits = self._training_logits(self.normalise(batch))
        return segmentation_loss(
            logits,
            batch["label"],
            ignore_label=self._spec.ignore_label,
            upsample_logits=self._upsample_logits,
            align_corners=self.model.align_corners,
        )

    def optimizer_step(self, *arguments: Any, **named: Any) -> None:
        """Make a step and drop the gradients: Lightning would keep them until the next forward pass has its maps."""
        super().optimizer_step(*arguments, **named)
        self.zero_grad()

    def on_validation_epoch_start(self) -> None:
        """Begin a new confusion matrix."""
        self._confusion.reset()

    def predict_labels(self, batch: Sample) -> Tensor:
        """Labels [N, H, W] of images of any size, for each of which cuDNN would make a trial of its kernels."""
        with repeatable_kernels(tf32=torch.backends.cudnn.allow_tf32):
            return predict(self.model, self.normalise(batch), _SINGLE)

    def validation_step(self, batch: Sample, batch_idx: int) -> None:
        """Count the pixels of a batch; nothing is exchanged between ranks here."""
        self._confusion.update(self.predict_labels(batch), batch["label"])

    def on_validation_epoch_end(self) -> None:
        """Sum the matrix over ranks and score it."""
        matrix = self._confusion.compute().cpu().numpy()
        result = scores(matrix, self._spec.classes)
        values = {f"val/{name}": float(result[name]) for name in ("miou", "pixel_accuracy", "pixels")}
        # Loggers take "step" for the step; by itself Lightning says the one before. The matrix is that of all ranks.
        self.log_dict({**values, "step": float(self.global_step)}, sync_dist=False)

    def configure_optimizers(self) -> Any:
        """SGD over the parameter groups, poly per optimiser step."""
        settings = self._optimizer
        groups = parameter_groups(
            self.model,
            lr=settings["lr"],
            weight_decay=settings["weight_decay"],
            bias_lr_multiplier=settings["bias_lr_multiplier"],
        )
        optimizer, schedule = sgd_with_poly(
            groups, momentum=settings["momentum"], max_steps=self._max_steps, power=settings["poly_power"]
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
