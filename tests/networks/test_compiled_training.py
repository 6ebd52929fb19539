"""A training step as `trainer.compile` has it made: every family of networks is one graph, with the plain gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from atrous.networks.activation_checkpointing import Recomputed, checkpoint_activations
from atrous.networks.deeplab import DeepLabV3, DeepLabV3Plus
from atrous.networks.dense_prediction_cell import Branch, DensePredictionCell
from atrous.networks.mobilenet import MobileNetV2
from atrous.networks.resnet import ResNet
from atrous.networks.segmenter import Segmenter
from atrous.networks.xception import Xception
from atrous.training import batch_norm

# Few units: Dynamo takes a tenth of a second for each convolution.
BOTTLENECK = partial(ResNet, units=(1, 1, 1, 1), width=4, strides_in="first_unit", stem="7x7")
BASIC = partial(ResNet, units=(1, 1, 1, 1), unit="basic", width=4)
XCEPTION = partial(Xception, entry=((128, 2), (728, 2)), middle_units=0, width=0.02)
MOBILENET = partial(MobileNetV2, settings=((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 1, 2)), width=0.25)
CELL = partial(DensePredictionCell, channels=8, dropout=0.0, branches=(Branch((1, 2), -1), Branch((2, 1), 0)))
SEPARABLE: dict[str, Any] = {"aspp_separable": True, "decoder_separable": True}
PLUS = partial(
    DeepLabV3Plus, num_classes=3, output_stride=8, aspp_channels=8, aspp_rates=(6,), low_level_channels=4, dropout=0.0
)
FAMILIES: dict[str, Callable[[], Segmenter]] = {
    "bottleneck": partial(PLUS, backbone=BOTTLENECK, decoder_convolutions=((3, 8),)),
    "xception": partial(PLUS, backbone=XCEPTION, decoder_convolutions=((3, 8),), **SEPARABLE),
    "mobilenet": partial(
        DeepLabV3, backbone=MOBILENET, output_stride=8, aspp_channels=8, aspp_rates=(), dropout=0.0, num_classes=3
    ),
    "cell": partial(PLUS, backbone=BASIC, decoder_convolutions=((3, 8),), context=CELL),
}


@pytest.fixture(autouse=True)
def _forgets_what_was_compiled() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def step(model: Segmenter, images_NCHW: Tensor, logits_of: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """The loss of a step, the gradients, and the batch norms' statistics after it."""
    loss = logits_of(images_NCHW).square().mean()
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    return {"loss": loss.detach(), **gradients, **dict(model.named_buffers())}


def assert_one_graph_steps_as_the_plain_network(model: Segmenter, *, backend: str, precision: float) -> None:
    """Compile the logits as `SegmentationTask` does, and compare a step with that of a copy."""
    plain = copy.deepcopy(model)
    images_NCHW = torch.randn(2, 3, 65, 65).contiguous(memory_format=torch.channels_last)
    compiled = torch.compile(model.low_resolution_logits, backend=backend, fullgraph=True)
    stepped = step(model, images_NCHW, compiled)
    expected = step(plain, images_NCHW, plain.low_resolution_logits)
    assert stepped.keys() == expected.keys()
    largest = max(
        float(value.abs().max()) for name, value in expected.items() if name in dict(plain.named_parameters())
    )
    for name, value in expected.items():
        torch.testing.assert_close(stepped[name], value, rtol=precision, atol=precision * largest, msg=name)


def network(family: str) -> Segmenter:
    torch.manual_seed(0)
    return FAMILIES[family]().train()


@pytest.mark.every(4)
@pytest.mark.no_cover  # what it runs is counted in other tests, where it takes half the time
@pytest.mark.parametrize(
    ("family", "recomputed", "frozen"),
    [
        ("bottleneck", "none", False),
        ("xception", "maps", False),
        ("mobilenet", "none", False),
        ("cell", "maps", True),
    ],
)
def test_a_training_step_of_every_family_is_one_graph(family: str, recomputed: Recomputed, frozen: bool) -> None:
    model = network(family)
    checkpoint_activations(model, recomputed)
    if frozen:
        batch_norm.freeze(model)
    assert_one_graph_steps_as_the_plain_network(model, backend="eager", precision=1e-4)


@pytest.mark.exhaustive
def test_a_step_whose_parts_are_computed_twice_is_one_graph_and_counts_a_batch_once() -> None:
    model = network("bottleneck")
    checkpoint_activations(model, "units")
    assert_one_graph_steps_as_the_plain_network(model, backend="aot_eager", precision=1e-4)
    assert {int(norm.num_batches_tracked or 0) for norm in model.modules() if isinstance(norm, nn.BatchNorm2d)} == {1}
