"""One training step in every manner that is compared."""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from benchmarks.networks import PAPER, networks_of, paper_network
from torch import Tensor, nn

from atrous.data.preprocessing import INCEPTION
from atrous.data.spec import VOC_SPEC
from atrous.hardware import has_bf16, resolve_precision
from atrous.networks.activation_checkpointing import Recomputed, checkpoint_activations
from atrous.networks.layers import HeConv2d
from atrous.studies.job_process import process_environment
from atrous.training import batch_norm, machine

PLAIN, TUNED = "plain PyTorch", "tuned PyTorch"
ATROUS, FLOAT32, CHECKPOINTED = "as shipped", "float32", "activation checkpointing"
MANNERS_OF_ATROUS = (ATROUS, FLOAT32, CHECKPOINTED)
OPTIMIZER = {"lr": 0.007, "momentum": 0.9, "weight_decay": 1e-4, "bias_lr_multiplier": 2.0, "poly_power": 0.9}


def name_of(network: str, manner: str) -> str:
    """A network, by its key, in a manner: how figures name what was measured."""
    return f"{network}: {manner}"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a step works on.

    Attributes:
        backbone: its name.
        size: height and width of an image, pixels.
        batch: images per step, of all ranks.
        output_stride: of the paper's network; the others have their own.
        device: cpu or cuda.
        steps: that are measured.
        warm_up: steps before them, in which memory settles.
    """

    backbone: str = "resnet50"
    size: int = 513
    batch: int = 2
    output_stride: int = 16
    device: str = "cpu"
    steps: int = 3
    warm_up: int = 2

    def request(self, network: str, manner: str) -> dict[str, Any]:
        """What a process of its own is asked to measure."""
        return {"network": network, "manner": manner, **asdict(self)}


def precision_of(manner: str, device: str) -> str:
    """The precision of a manner, as `recipe.precision` names it."""
    return "32-true" if manner in (PLAIN, FLOAT32) else resolve_precision("auto", device)


def checkpointing_of(manner: str) -> Recomputed:
    """What a manner of atrous computes twice, as `trainer.activation_checkpointing` names it."""
    return "units" if manner == CHECKPOINTED else "maps"


def environment_of(manner: str, *, threads: int = 0) -> dict[str, str]:
    """The variables of a process that measures a manner: those of a job of atrous-train, or this process's own."""
    if manner in MANNERS_OF_ATROUS:
        return process_environment(os.environ, {"threads": threads, "devices": 1})
    return dict(os.environ)


def build(network: str, setting: Setting) -> nn.Module:
    """A network of `benchmarks.networks`, its weights the same every time."""
    torch.manual_seed(0)
    if network == PAPER:
        return paper_network(setting.backbone, setting.output_stride)
    return networks_of(setting.backbone)[network].build(setting.backbone)


def batch_of(setting: Setting, side: int, *, images: int) -> dict[str, Tensor]:
    """Images and labels as the loader delivers them: bytes, channels last, with some void pixels; on the device."""
    torch.manual_seed(0)
    labels = torch.randint(0, VOC_SPEC.num_classes, (images, side, side), dtype=torch.uint8)
    labels[:, :: max(1, side // 16)] = VOC_SPEC.ignore_label
    pixels = torch.randint(0, 256, (images, side, side, 3), dtype=torch.uint8)
    return {
        "image": pixels.to(setting.device).permute(0, 3, 1, 2),
        "label": labels.to(setting.device),
        "extent": torch.full((images, 2), side, device=setting.device),
    }


def plain_step(model: nn.Module, batch: dict[str, Tensor], setting: Setting, *, tuned: bool) -> Callable[[], None]:
    """Return a step as most projects write it; `tuned` adds channels last and bf16 where it is in hardware."""
    _convolve_as_pytorch(model)
    images, labels = INCEPTION.normalise(batch["image"], batch["extent"]).contiguous(), batch["label"].long()
    if tuned:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        images = images.contiguous(memory_format=torch.channels_last)
    dtype = torch.bfloat16 if tuned and has_bf16(setting.device) else None
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=OPTIMIZER["lr"],
        momentum=OPTIMIZER["momentum"],
        weight_decay=OPTIMIZER["weight_decay"],
    )

    def step() -> None:
        with torch.autocast(setting.device, dtype, enabled=dtype is not None):
            output = model(images)
            logits = output["out"] if isinstance(output, dict) else output
            loss = F.cross_entropy(logits.float(), labels, ignore_index=VOC_SPEC.ignore_label)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _convolve_as_pytorch(model: nn.Module) -> None:
    """Leave a network of atrous no kernel of its own: in training some of its convolutions take them by themselves."""
    for module in model.modules():
        if isinstance(module, HeConv2d):
            module.__class__ = nn.Conv2d  # type: ignore[assignment]


class _Step(nn.Module):
    """A task whose forward pass is its training step, as Lightning hands it to DDP."""

    def __init__(self, task: Any) -> None:
        super().__init__()
        self.task = task

    def forward(self, batch: Any) -> Tensor:
        """Return the loss."""
        loss: Tensor = self.task.training_step(batch, 0)
        return loss


def atrous_step(model: nn.Module, batch: dict[str, Tensor], setting: Setting, *, manner: str) -> Callable[[], None]:
    """Return a step as `atrous.training.run` sets it up."""
    from atrous import lean_torchmetrics  # noqa: F401  # as `atrous.training.run` does
    from atrous.training.task import SegmentationTask  # Lightning takes memory that a peer's process does not need

    checkpoint_activations(model, checkpointing_of(manner))  # type: ignore[arg-type]
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    task = SegmentationTask(
        model=model,  # type: ignore[arg-type]
        spec=VOC_SPEC,
        seed=0,
        max_steps=30000,
        preprocessing="inception",
        optimizer=OPTIMIZER,
    )
    task.to(setting.device).train()
    loss_of: nn.Module = _Step(task)
    if dist.is_initialized():
        batch_norm.synchronise(model, on_cuda=setting.device == "cuda")
        loss_of = nn.parallel.DistributedDataParallel(
            loss_of, broadcast_buffers=False, gradient_as_bucket_view=True, static_graph=True
        )
    settings = task.configure_optimizers()
    optimizer, schedule = settings["optimizer"], settings["lr_scheduler"]["scheduler"]
    dtype = machine.autocast_dtype(precision_of(manner, setting.device))

    def step() -> None:
        with torch.autocast(setting.device, dtype, enabled=dtype is not None, cache_enabled=False):  # as Lightning
            loss = loss_of(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()

    return step
