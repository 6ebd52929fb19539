"""The networks of both papers in plain PyTorch; every name here is imported when it is first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atrous.lazy import lazy_names

if TYPE_CHECKING:
    from atrous.networks.aspp import ASPP, Context, ContextFactory
    from atrous.networks.backbone import Backbone, BackboneFactory, FeatureInfo
    from atrous.networks.complexity import Complexity, multiply_adds
    from atrous.networks.decoder import Decoder
    from atrous.networks.deeplab import DeepLabV3, DeepLabV3Cascade, DeepLabV3Plus
    from atrous.networks.dense_prediction_cell import DensePredictionCell
    from atrous.networks.mobilenet import MobileNetV2, mobilenetv2
    from atrous.networks.output_stride import UnitPlan, aspp_rates_at, plan_units
    from atrous.networks.resize import resize_bilinear
    from atrous.networks.resnet import ResNet, resnet18, resnet34, resnet50, resnet101, resnet152
    from atrous.networks.segmenter import Segmenter
    from atrous.networks.timm_backbone import TimmBackbone
    from atrous.networks.xception import Xception, xception41, xception65, xception71

__all__ = [
    "ASPP",
    "Backbone",
    "BackboneFactory",
    "Complexity",
    "Context",
    "ContextFactory",
    "Decoder",
    "DeepLabV3",
    "DeepLabV3Cascade",
    "DeepLabV3Plus",
    "DensePredictionCell",
    "FeatureInfo",
    "MobileNetV2",
    "ResNet",
    "Segmenter",
    "TimmBackbone",
    "UnitPlan",
    "Xception",
    "aspp_rates_at",
    "mobilenetv2",
    "multiply_adds",
    "plan_units",
    "resize_bilinear",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "xception41",
    "xception65",
    "xception71",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "aspp": ("ASPP", "Context", "ContextFactory"),
            "backbone": ("Backbone", "BackboneFactory", "FeatureInfo"),
            "complexity": ("Complexity", "multiply_adds"),
            "decoder": ("Decoder",),
            "deeplab": ("DeepLabV3", "DeepLabV3Cascade", "DeepLabV3Plus"),
            "dense_prediction_cell": ("DensePredictionCell",),
            "mobilenet": ("MobileNetV2", "mobilenetv2"),
            "output_stride": ("UnitPlan", "aspp_rates_at", "plan_units"),
            "resize": ("resize_bilinear",),
            "resnet": ("ResNet", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
            "segmenter": ("Segmenter",),
            "timm_backbone": ("TimmBackbone",),
            "xception": ("Xception", "xception41", "xception65", "xception71"),
        },
    )
