"""The ways of inference that `benchmarks/inference.py` compares: plain PyTorch, atrous, other libraries."""

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F
from benchmarks.peers import smp_deeplabv3plus, torchvision_deeplabv3
from torch import Tensor

from atrous import DeepLabV3Plus
from atrous.data.preprocessing import INCEPTION
from atrous.evaluation.inference import predict
from atrous.evaluation.preparation import prepared
from atrous.evaluation.protocol import Protocol, load_protocol
from atrous.hardware import has_bf16

PLAIN, ATROUS = "plain", "atrous"
PEERS = ("torchvision", "smp")
SINGLE, MULTI_SCALE, STREET = "single", "multi-scale + flip", "street, multi-scale + flip"
_PROTOCOLS = {SINGLE: "single", MULTI_SCALE: "ms_flip_os16", STREET: "cityscapes_ms_flip_os8"}
_STREET_SIZE = (1024, 2048)


def protocol_of(task: str) -> Protocol:
    """The protocol of a task, at output stride 16 throughout."""
    found = load_protocol(_PROTOCOLS[task])
    return Protocol(output_stride=16, scales=found.scales, flip=found.flip)


def images_of(task: str, arguments: argparse.Namespace) -> Tensor:
    """Images as bytes, channels last: what reading files gives."""
    torch.manual_seed(0)
    count = arguments.batch if task == SINGLE else 1
    height, width = _STREET_SIZE if task == STREET else (arguments.size, arguments.size)
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8).permute(0, 3, 1, 2)


def model_of(arguments: argparse.Namespace, task: str = SINGLE) -> DeepLabV3Plus:
    """The network of both ways; the same weights every time."""
    torch.manual_seed(0)
    classes = 19 if task == STREET else 21
    return DeepLabV3Plus(backbone=arguments.backbone, num_classes=classes, multi_grid=None).eval()


def plain_way(task: str, arguments: argparse.Namespace) -> Callable[[], Tensor]:
    """Return inference in PyTorch's defaults."""
    images, model = images_of(task, arguments), model_of(arguments, task)
    x = INCEPTION.normalise(images, _extents(images)).contiguous()
    del images
    protocol = protocol_of(task)
    if task == SINGLE:
        return lambda: _labels(model(x))
    return lambda: plain_loop(model, x, protocol)


def plain_loop(model: DeepLabV3Plus, x: Tensor, protocol: Protocol) -> Tensor:
    """Multi-scale + flip as most projects write it: the network's own full-size logits, brought to the image's size."""
    size = x.shape[-2:]
    total = torch.zeros(len(x), model.num_classes, *size)
    for scale in protocol.scales:
        scaled_size = [int((side - 1) * scale + 1) for side in size]
        scaled = F.interpolate(x, scaled_size, mode="bilinear", align_corners=True)
        for mirrored in (False, True) if protocol.flip else (False,):
            logits = model(scaled.flip(-1) if mirrored else scaled)
            logits = logits.flip(-1) if mirrored else logits
            total += F.interpolate(logits, size, mode="bilinear", align_corners=True).softmax(1)
    return total.argmax(1)


def atrous_way(task: str, arguments: argparse.Namespace) -> Callable[[], Tensor]:
    """Return inference as `atrous.load(...).predict` runs it."""
    images = images_of(task, arguments)
    model, protocol = prepared(model_of(arguments, task), bf16=has_bf16("cpu")), protocol_of(task)
    return lambda: predict(model, INCEPTION.normalise(images, _extents(images)), protocol)


def peer_way(name: str, arguments: argparse.Namespace) -> Callable[[], Tensor]:
    """Return another library's network, as it ships, on the same images.

    Raises:
        PeerMissingError: the library cannot be imported.
    """
    images = images_of(SINGLE, arguments)
    x = INCEPTION.normalise(images, _extents(images)).contiguous()
    if name == "torchvision":
        theirs = torchvision_deeplabv3(arguments.backbone).eval()
        return lambda: _labels(theirs(x)["out"])
    # smp's decoder wants sides that are multiples of 16.
    cut = x[..., : arguments.size // 16 * 16, : arguments.size // 16 * 16].contiguous()
    network = smp_deeplabv3plus(arguments.backbone).eval()
    return lambda: _labels(network(cut))


def _labels(logits: Tensor) -> Tensor:
    return logits.argmax(1)


def _extents(images: Tensor) -> Tensor:
    return torch.tensor([tuple(images.shape[-2:])] * len(images))
