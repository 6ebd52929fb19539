"""The contract that every backbone x network x output stride keeps."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from functools import partial
from math import nan
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import nn

import atrous
from atrous.errors import ConfigError
from atrous.networks.activation_checkpointing import checkpoint_activations
from atrous.networks.aspp import ASPP
from atrous.networks.backbone import BackboneFactory
from atrous.networks.deeplab import DeepLabV3, DeepLabV3Cascade, DeepLabV3Plus
from atrous.networks.dense_prediction_cell import DensePredictionCell
from atrous.networks.mobilenet import MobileNetV2, mobilenetv2
from atrous.networks.resnet import ResNet, resnet18, resnet50
from atrous.networks.segmenter import BackboneName, Segmenter
from atrous.networks.xception import xception41, xception65, xception71

pytestmark = pytest.mark.slow

BACKBONES: dict[str, BackboneFactory] = {
    "basic": partial(ResNet, units=(2, 2, 2, 3), unit="basic", width=4),
    "bottleneck": partial(resnet50, width=4),
    "torchvision_layout": partial(resnet50, width=4, stem="7x7", strides_in="first_unit"),
    "tiny": partial(ResNet, units=(1, 1, 1, 3), unit="basic", width=4),
    "xception": partial(xception65, width=0.02, middle_units=2),
    "xception71": partial(xception71, width=0.02, middle_units=1),
    "mobilenetv2": partial(MobileNetV2, width=0.25),
}
SEPARABLE: dict[str, Any] = {"aspp_separable": True, "decoder_separable": True}
DECODER: dict[str, Any] = {"aspp_channels": 8, "low_level_channels": 4, "decoder_convolutions": ((3, 8), (3, 8))}
NETWORKS: dict[str, Callable[..., Segmenter]] = {
    "v3": partial(DeepLabV3, aspp_channels=8),
    "v3_without_pooling": partial(DeepLabV3, aspp_channels=8, image_pooling=False),
    "v3_without_rates": partial(DeepLabV3, aspp_channels=8, aspp_rates=()),
    "v3_behind_block5": partial(DeepLabV3, aspp_channels=8, blocks=5),
    "cascade": DeepLabV3Cascade,
    "v3plus": partial(DeepLabV3Plus, **DECODER),
    "v3plus_separable": partial(DeepLabV3Plus, **DECODER, **SEPARABLE),
    "v3plus_two_stages": partial(DeepLabV3Plus, **DECODER, low_levels=(8, 4)),
    "v3plus_cell": partial(DeepLabV3Plus, **DECODER, context=partial(DensePredictionCell, channels=8)),
}
WITH_ADDED_BLOCKS = ("v3_behind_block5", "cascade")  # ResNets only
RESNETS = ("basic", "bottleneck", "torchvision_layout", "tiny")
OUTPUT_STRIDES = {"cascade": (4, 8, 16, 32, 64, 128, 256), "v3_behind_block5": (4, 8, 16, 32, 64)}
CONTRACT = [
    (network, backbone)
    for network in NETWORKS
    for backbone in BACKBONES
    if backbone in RESNETS or network not in WITH_ADDED_BLOCKS
]
EVERY_BACKBONE_AND_NETWORK = [pair for pair in CONTRACT if pair[0] == "v3plus_separable" or pair[1] == "basic"]
every_pair = pytest.mark.parametrize(("network", "backbone"), CONTRACT)
COMPILED_EACH_TIME = (("v3plus_two_stages", "basic"),)
some_parts = pytest.mark.parametrize(
    ("network", "backbone"),
    [
        pytest.param(*pair, marks=() if pair in COMPILED_EACH_TIME else pytest.mark.exhaustive)
        for pair in EVERY_BACKBONE_AND_NETWORK
    ],
)


def build(network: str, backbone: str, *, output_stride: int = 16) -> Segmenter:
    torch.manual_seed(0)
    return NETWORKS[network](backbone=BACKBONES[backbone], num_classes=5, output_stride=output_stride)


def strides_of(network: str) -> tuple[int, ...]:
    return OUTPUT_STRIDES.get(network, (4, 8, 16, 32))


@pytest.mark.every(5)
@pytest.mark.no_cover  # what it runs is counted in other tests, where it takes half the time
@every_pair
@pytest.mark.parametrize("size", [(33, 65), (64, 38)])
def test_logits_have_the_size_of_the_image_at_every_output_stride(
    network: str, backbone: str, size: tuple[int, int]
) -> None:
    model = build(network, backbone).eval()
    for output_stride in strides_of(network):
        model.set_output_stride(output_stride)
        with torch.inference_mode():
            logits_NKHW = model(torch.randn(2, 3, *size))
            low = model.low_resolution_logits(torch.randn(1, 3, *size))
        assert model.output_stride == output_stride
        assert logits_NKHW.shape == (2, 5, *size)
        assert logits_NKHW.isfinite().all()
        stride = 4 if network.startswith("v3plus") else output_stride
        assert low.shape == (1, 5, -(-size[0] // stride), -(-size[1] // stride))


@pytest.mark.every(4)
@every_pair
def test_every_parameter_gets_a_gradient(network: str, backbone: str) -> None:
    model = build(network, backbone).train()
    model(torch.randn(2, 3, 49, 49)).square().mean().backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert without == []
    zero = [name for name, parameter in model.named_parameters() if not parameter.grad.abs().sum() > 0]  # type: ignore[union-attr]
    assert zero == []


@pytest.mark.every(4)
@every_pair
def test_switching_the_output_stride_keeps_every_weight(network: str, backbone: str) -> None:
    model = build(network, backbone)
    before = copy.deepcopy(model.state_dict())
    for output_stride in strides_of(network):
        model.set_output_stride(output_stride)
        after = model.state_dict()
        assert after.keys() == before.keys()
        assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.every(4)
@every_pair
def test_a_switched_network_equals_one_built_at_that_stride(network: str, backbone: str) -> None:
    image_NCHW = torch.randn(1, 3, 65, 65)
    switched, built = build(network, backbone).eval(), build(network, backbone, output_stride=8).eval()
    switched.set_output_stride(8)
    with torch.inference_mode():
        assert torch.equal(switched(image_NCHW), built(image_NCHW))


@pytest.mark.parametrize("network", NETWORKS)
def test_a_refused_output_stride_changes_nothing(network: str) -> None:
    model = build(network, "bottleneck")
    with pytest.raises(ConfigError, match="output_stride=512 is impossible"):
        model.set_output_stride(512)
    assert model.output_stride == 16
    assert str(model) == str(build(network, "bottleneck"))


@pytest.mark.every(6)
@pytest.mark.no_cover  # what it runs is counted in other tests, where it takes half the time
@every_pair
def test_saved_tensors_load_without_pickle(network: str, backbone: str) -> None:
    model = build(network, backbone).eval()
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    torch.manual_seed(1)
    other = NETWORKS[network](backbone=BACKBONES[backbone], num_classes=5).eval()
    other.load_state_dict(torch.load(file, weights_only=True))
    image_NCHW = torch.randn(1, 3, 33, 33)
    with torch.inference_mode():
        assert torch.equal(model(image_NCHW), other(image_NCHW))


@pytest.mark.every(4)
@every_pair
def test_a_seed_makes_the_weights(network: str, backbone: str) -> None:
    first, second = build(network, backbone).state_dict(), build(network, backbone).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.every(5)
@every_pair
def test_channels_last_and_bfloat16_work(network: str, backbone: str) -> None:
    model = build(network, backbone).eval()
    image_NCHW = torch.randn(2, 3, 65, 65)
    with torch.inference_mode():
        plain = model(image_NCHW)
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        difference = model(image_NCHW.to(memory_format=torch.channels_last)) - plain
        assert difference.abs().max() <= 1e-4 * plain.abs().max()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert model(image_NCHW).isfinite().all()


@pytest.mark.no_cover  # what it runs is counted in other tests, where it takes half the time
@some_parts
def test_torch_compile_takes_the_whole_network_as_one_graph(network: str, backbone: str) -> None:
    model = build(network, backbone).eval()
    image_NCHW = torch.randn(1, 3, 33, 33)
    compiled: Any = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(image_NCHW), model(image_NCHW))
    torch.compiler.reset()


@some_parts
def test_torch_export_gives_the_same_logits(network: str, backbone: str) -> None:
    model = build(network, backbone).eval()
    image_NCHW = torch.randn(1, 3, 33, 49)
    exported = torch.export.export(model, (image_NCHW,))
    with torch.no_grad():
        torch.testing.assert_close(exported.module()(image_NCHW), model(image_NCHW))


def test_a_trace_takes_any_number_of_images_of_any_size() -> None:
    model = DeepLabV3Plus(backbone=BACKBONES["xception"], aspp_channels=64, aspp_separable=True, output_stride=16)
    model = model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    first, other = (
        torch.randn(shape).to(memory_format=torch.channels_last) for shape in ((2, 3, 65, 65), (3, 3, 97, 80))
    )
    with torch.no_grad():
        traced = torch.jit.trace(model, first)  # type: ignore[no-untyped-call]
        torch.testing.assert_close(traced(other), model(other))


def test_a_training_that_makes_maps_again_is_traced_without() -> None:
    model = DeepLabV3Plus(backbone=BACKBONES["tiny"], aspp_channels=8, dropout=0.0).train()
    checkpoint_activations(model, "maps")
    traced = torch.jit.trace(model, torch.randn(2, 3, 65, 65), check_trace=False)  # type: ignore[no-untyped-call]
    x = torch.randn(3, 3, 97, 80)
    torch.testing.assert_close(traced(x), model(x))


def test_one_line_of_plain_pytorch_builds_the_network() -> None:
    with torch.device("meta"):
        model = atrous.DeepLabV3Plus(backbone="resnet50", num_classes=21, output_stride=16).eval()
        assert model(torch.empty(1, 3, 513, 513)).shape == (1, 21, 513, 513)


@pytest.mark.every(3)
@pytest.mark.parametrize("backbone", get_args(BackboneName))
def test_every_backbone_can_be_had_by_name(backbone: BackboneName) -> None:
    with torch.device("meta"):
        model = DeepLabV3Plus(backbone=backbone).eval()
        assert model(torch.empty(1, 3, 65, 65)).shape == (1, 21, 65, 65)


def test_multi_grid_is_the_papers_for_a_deep_resnet_by_name_and_none_for_the_rest() -> None:
    with torch.device("meta"):
        rates = {
            name: {
                conv.dilation[0] for conv in DeepLabV3(backbone=name).backbone.modules() if isinstance(conv, nn.Conv2d)
            }
            for name in ("resnet50", "resnet101", "resnet18", "xception65", "mobilenetv2")
        }
    assert rates == {
        "resnet50": {1, 2, 4, 8},
        "resnet101": {1, 2, 4, 8},
        "resnet18": {1, 2},
        "xception65": {1, 2},
        "mobilenetv2": {1, 2},
    }


@pytest.mark.parametrize("backbone", ["resnet50", "resnet18"])
def test_a_cascade_has_no_multi_grid_unless_it_is_asked_for(backbone: BackboneName) -> None:
    with torch.device("meta"):
        cascade = DeepLabV3Cascade(backbone=backbone, blocks=5)
    convs = [module for module in cascade.modules() if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)]
    assert {conv.dilation[0] for conv in convs} == {1, 2, 4}  # block4 at rate 2, block5 at rate 4


def rates_of(model: nn.Module) -> list[Any]:
    return [(conv.stride, conv.dilation, conv.padding) for conv in model.modules() if isinstance(conv, nn.Conv2d)]


@pytest.mark.parametrize("backbone", ["tiny", "xception", "mobilenetv2"])
def test_numpys_whole_numbers_are_as_good_as_pythons(backbone: str) -> None:
    grid = (1, 1, 1) if backbone == "mobilenetv2" else (1, 2, 4)
    make: Any = partial(DeepLabV3, backbone=BACKBONES[backbone], aspp_channels=8)
    plain: Segmenter = make(output_stride=16, multi_grid=grid, aspp_rates=(6, 12))
    model: Any = make(output_stride=np.int64(16), multi_grid=np.array(grid), aspp_rates=np.array((6, 12)))
    assert rates_of(model) == rates_of(plain)
    plain.set_output_stride(8)
    model.set_output_stride(np.int64(8))
    assert rates_of(model) == rates_of(plain)
    assert type(model.output_stride) is int
    model.backbone.set_output_stride(np.int32(8))
    assert rates_of(model) == rates_of(plain)
    assert all(type(number) is int for sizes in rates_of(model) for size in sizes for number in size)


@pytest.mark.parametrize("backbone", ["tiny", "xception", "mobilenetv2"])
def test_a_number_that_is_not_whole_is_refused_and_changes_nothing(backbone: str) -> None:
    model: Any = DeepLabV3(backbone=BACKBONES[backbone], aspp_channels=8)
    before = rates_of(model)
    for part in (model, model.backbone, model.context):
        with pytest.raises(ConfigError, match=r"output_stride=8\.0 must be a whole number"):
            part.set_output_stride(8.0)
    assert (rates_of(model), model.output_stride) == (before, 16)
    for name, given in {"multi_grid": (1.0, 1.0, 1.0), "aspp_rates": (6.0,)}.items():
        wrong: dict[str, Any] = {name: given}
        with pytest.raises(ConfigError, match=rf"{name}=\({given[0]},.*whole number"):
            DeepLabV3(backbone=BACKBONES[backbone], **wrong)


@pytest.mark.parametrize(("output_stride", "smallest"), [(8, 8), (16, 16), (32, 32), (256, 32)])
def test_an_image_smaller_than_one_output_cell_is_refused(output_stride: int, smallest: int) -> None:
    model = DeepLabV3Cascade(backbone=BACKBONES["tiny"], output_stride=output_stride).eval()
    assert model(torch.zeros(1, 3, smallest, smallest)).isfinite().all()
    with pytest.raises(ConfigError, match=f"{smallest - 1}x40 pixels .* needs at least {smallest}x{smallest}"):
        model(torch.zeros(1, 3, smallest - 1, 40))


@pytest.mark.parametrize("blocks", [4, 5, 6, 7])
def test_the_cascade_has_the_blocks_that_it_is_given(blocks: int) -> None:
    model = DeepLabV3Cascade(backbone=BACKBONES["bottleneck"], blocks=blocks)
    assert isinstance(model.backbone, ResNet)
    assert len(model.backbone.blocks) == blocks
    assert sum(1 for module in model.modules() if isinstance(module, nn.Conv2d) and module.bias is not None) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DeepLabV3(backbone="vgg16"), "backbone='vgg16' is unknown; choose resnet18, resnet34"),  # type: ignore[arg-type]
        (
            lambda: DeepLabV3(backbone=partial(resnet18, width=4), multi_grid=(1, 2, 4)),
            r"multi_grid=\(1, 2, 4\) .* 2 units",
        ),
        (lambda: DeepLabV3(backbone=BACKBONES["tiny"], num_classes=1), "num_classes=1 must be at least 2"),
        (lambda: DeepLabV3(backbone=BACKBONES["tiny"], output_stride=64), "output_stride=64 is impossible"),
        (lambda: DeepLabV3Cascade(backbone=BACKBONES["tiny"], blocks=3), "blocks=3 must be 4, 5, 6 or 7"),
        (lambda: DeepLabV3Cascade(backbone="xception65"), "blocks=7: Xception has no blocks 5 to 7"),
        (lambda: DeepLabV3Cascade(backbone="mobilenetv2", multi_grid=None), "blocks=7: MobileNetV2 has no blocks"),
        (lambda: DeepLabV3(backbone="mobilenetv2", multi_grid=(1, 2, 4)), "MobileNetV2 has no multi-grid"),
        (lambda: DeepLabV3(multi_grid=()), r"multi_grid=\(\) .* 3 units"),
        (lambda: DeepLabV3(backbone="xception65", multi_grid=(1, 2)), "each of the 3 convolutions"),
        (lambda: DeepLabV3(backbone="xception65", output_stride=64), "4, 8, 16, 32"),
        (lambda: DeepLabV3(backbone="mobilenetv2", output_stride=2), "4, 8, 16, 32"),
        (lambda: DeepLabV3(backbone=BACKBONES["tiny"], aspp_rates=(6, 0)), "every rate must be a whole number"),
    ],
)
def test_what_cannot_be_built_says_what_can(make: Callable[[], Segmenter], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_classes": "21"}, "num_classes='21' must be a whole number"),
        ({"num_classes": 2.0}, r"num_classes=2\.0 must be a whole number"),
        ({"aspp_rates": 6}, "aspp_rates=6 must be a list of whole numbers"),
        ({"aspp_channels": "8"}, "aspp_channels='8' must be a whole number"),
        ({"multi_grid": 2}, "multi_grid=2 must be a list of whole numbers"),
        ({"low_levels": 4}, "low_levels=4 must be a list of whole numbers"),
        ({"low_level_channels": 4.0}, r"low_level_channels=4\.0 must be a whole number"),
        ({"decoder_convolutions": 3}, r"decoder_convolutions=3 must be a list of \(kernel size, channels\)"),
        (
            {"decoder_convolutions": [3, 256]},
            r"decoder_convolutions, \(kernel size, channels\) of each=3 must be a list",
        ),
        ({"decoder_convolutions": [(3.0, 8)]}, r"decoder_convolutions.*\(3\.0, 8\): every one must be a whole number"),
        ({"backbone": nn.Conv2d(3, 3, 3)}, "backbone is of the type Conv2d; give a name or what builds one, such as"),
        ({"backbone": None}, "backbone is of the type NoneType; give a name"),
        ({"num_classes": True}, "num_classes=True must be a whole number"),
        ({"aspp_rates": "6"}, "aspp_rates='6' must be a list of whole numbers"),
        ({"aspp_rates": b"6"}, "aspp_rates=b'6' must be a list of whole numbers"),
        ({"aspp_rates": {6: 12}}, r"aspp_rates=\{6: 12\} must be a list of whole numbers"),
        ({"aspp_rates": int}, "aspp_rates=<class 'int'> must be a list of whole numbers"),
        ({"aspp_rates": torch.tensor(6)}, r"aspp_rates=tensor\(6\) must be a list of whole numbers"),
        ({"aspp_separable": "no"}, "aspp_separable='no' must be True or False"),
        ({"image_pooling": None}, "image_pooling=None must be True or False"),
        ({"decoder_separable": nan}, "decoder_separable=nan must be True or False"),
        ({"align_corners": [1, 2]}, r"align_corners=\[1, 2\] must be True or False"),
        ({"dropout": "0.1"}, "dropout='0.1' must be a number"),
        ({"dropout": None}, "dropout=None must be a number"),
        ({"dropout": nan}, "dropout=nan must be at least 0 and below 1"),
        ({"context": "aspp"}, "context is of the type str; give what builds one, such as atrous.networks.Dense"),
        ({"context": 0}, "context is of the type int; give what builds one"),
        ({"context": nn.Identity}, "context=Identity builds a Identity; give what builds an atrous.networks.Context"),
        ({"backbone": nn.Identity}, "backbone=Identity builds a Identity; give what builds an atrous.networks.Backb"),
        ({"backbone": int}, "backbone=int: give what builds an .*Backbone when it is called with output_stride, mul"),
        ({"backbone": partial(resnet18, width="8")}, "width='8' must be a whole number"),
        ({"backbone": partial(resnet18, zero_init_residual="no")}, "zero_init_residual='no' must be True or False"),
        ({"backbone": partial(resnet18, strides_in=["last_unit"])}, r"strides_in=\['last_unit'\] is unknown"),
        ({"backbone": partial(ResNet, units=None)}, "units=None must be a list of whole numbers"),  # type: ignore[arg-type]
        ({"backbone": partial(xception41, width=nan)}, "width=nan must be above 0 and finite"),
        ({"backbone": partial(xception41, middle_units=-1)}, "middle_units=-1 must be at least 0"),
        ({"backbone": partial(xception41, entry=[128])}, r"entry, \(channels, stride\) of each=128 must be a list"),
        ({"backbone": partial(mobilenetv2, epsilon="a")}, "epsilon='a' must be a number"),
        ({"backbone": partial(mobilenetv2, settings=[[6, 24]])}, r"settings: \(6, 24\) must be \(expansion, channels"),
    ],
)
def test_an_argument_of_another_kind_is_refused_by_its_name(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DeepLabV3Plus(**{"backbone": BACKBONES["tiny"], **given})


def test_a_compiled_backbone_and_a_compiled_context_are_as_good_as_their_own() -> None:
    def compiled(factory: Callable[..., nn.Module]) -> Any:
        return lambda **given: torch.compile(factory(**given), backend="eager")

    parts = {"backbone": compiled(BACKBONES["tiny"]), "context": compiled(partial(ASPP, channels=4))}
    network = DeepLabV3Plus(num_classes=2, **parts).eval()
    network.set_output_stride(8)
    assert network(torch.zeros(1, 3, 33, 33)).shape == (1, 2, 33, 33)
