"""Everything that can be known to fail, fails here: within seconds, before a library is imported or data is touched."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from atrous.building import check_targets
from atrous.errors import ConfigError
from atrous.evaluation.protocol import load_protocol
from atrous.networks.output_stride import aspp_rates_at, check_output_stride, resnet_unit_strides

PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")
PREPROCESSINGS = ("inception", "rgb_mean", "imagenet")
ACCELERATORS = ("auto", "cpu", "gpu", "cuda")


def check(config: Mapping[str, Any]) -> None:
    """Refuse what cannot be run, one rule per decision.

    Raises:
        ConfigError: one line per problem: the key, its value and what would be right.
    """
    problems = [problem for rule in _RULES for problem in rule(config)]
    if problems:
        raise ConfigError("\n".join(problems))


def _check_output_stride(config: Mapping[str, Any]) -> Iterator[str]:
    backbone, blocks = config["backbone"], config["model"].get("blocks", 4)
    if len(backbone["units"]) != 4 or min(backbone["units"]) < 1 or not 4 <= blocks <= 7:
        units = backbone["units"]
        yield f"backbone.units={units} needs four positive counts, model.blocks={blocks} a value from 4 to 7"
        return
    units = [*backbone["units"], *[backbone["units"][3]] * (blocks - 4)]
    try:
        strides = resnet_unit_strides(units, strides_in=backbone["strides_in"])
        check_output_stride(config["output_stride"], unit_strides=[stride for block in strides for stride in block])
    except ConfigError as error:
        yield str(error)


def _check_crop(config: Mapping[str, Any]) -> Iterator[str]:
    crop, stride = config["recipe"]["crop_size"], config["output_stride"]
    if stride < 1 or stride & (stride - 1) or not config["model"].get("align_corners", True):
        return  # an impossible stride is told by its own rule
    if crop > stride and (crop - 1) % stride:
        below = (crop - 1) // stride * stride + 1
        yield (
            f"recipe.crop_size={crop} is not k * output_stride + 1 (output_stride={stride}), as aligned corners need: "
            f"{below} or {below + stride} would be right"
        )
    if crop < 17:
        yield f"recipe.crop_size={crop} is too small: at least 17"


def _check_batch(config: Mapping[str, Any]) -> Iterator[str]:
    trainer, recipe = config["trainer"], config["recipe"]
    devices, accumulate, size = trainer["devices"], trainer["accumulate"], recipe["batch_size"]
    if trainer["accelerator"] not in ACCELERATORS:
        yield f"trainer.accelerator={trainer['accelerator']!r}: one of {', '.join(ACCELERATORS)}"
    if min(devices, accumulate, size) < 1:
        values = f"trainer.devices={devices}, trainer.accumulate={accumulate} and recipe.batch_size={size}"
        yield f"{values} must all be at least 1"
        return
    each, parts = trainer["batch_per_device"], devices * accumulate
    if each is None and size % parts:
        below = size // parts * parts
        right = f"{below} or {below + parts}" if below else f"{parts}"
        yield (
            f"recipe.batch_size={size} (the global batch) cannot be shared out: trainer.devices={devices} x "
            f"trainer.accumulate={accumulate} must divide it; {right} would be right"
        )
        return
    each = size // parts if each is None else each
    if devices * each * accumulate != size:
        yield (
            f"trainer.devices={devices} x trainer.batch_per_device={each} x trainer.accumulate={accumulate} = "
            f"{devices * each * accumulate}, but recipe.batch_size={size} (the global batch): they must be equal"
        )
    elif each == 1 and not recipe["batch_norm"]["frozen"]:
        yield (
            f"recipe.batch_size={size} leaves one image per device while batch norm trains (trainer.devices={devices}, "
            f"trainer.accumulate={accumulate}): use at least 2, or recipe.batch_norm.frozen=true"
        )


def _check_multi_grid(config: Mapping[str, Any]) -> Iterator[str]:
    grid, units = config["model"].get("multi_grid"), config["backbone"]["units"]
    if grid is not None and len(units) == 4 and (len(grid) != units[3] or min(grid) < 1):
        yield (
            f"model.multi_grid={grid} needs a rate of at least 1 for each of the {units[3]} units of block 4 "
            f"(backbone.units={units}), e.g. [{','.join(str(2**unit) for unit in range(units[3]))}]"
        )


def _check_networks(config: Mapping[str, Any]) -> Iterator[str]:
    backbone = config["backbone"]
    for key, choices in (("unit", ("basic", "bottleneck")), ("stem", ("beta", "7x7"))):
        if backbone[key] not in choices:
            yield f"backbone.{key}={backbone[key]!r}: one of {', '.join(choices)}"
    try:
        aspp_rates_at(config["model"].get("aspp_rates", ()), 16)
    except ConfigError as error:
        yield f"model.{error}"


def _check_recipe(config: Mapping[str, Any]) -> Iterator[str]:
    recipe = config["recipe"]
    optimizer, scales, decays = recipe["optimizer"], recipe["augmentation"], recipe["batch_norm"]
    if recipe["max_steps"] < 1:
        yield f"recipe.max_steps={recipe['max_steps']}: at least 1"
    if recipe["precision"] not in PRECISIONS:
        yield f"recipe.precision={recipe['precision']!r}: one of {', '.join(PRECISIONS)}"
    if recipe["preprocessing"] not in PREPROCESSINGS:
        yield f"recipe.preprocessing={recipe['preprocessing']!r}: one of {', '.join(PREPROCESSINGS)}"
    if optimizer["lr"] <= 0:
        yield f"recipe.optimizer.lr={optimizer['lr']}: more than 0, e.g. 0.007"
    for key in ("backbone_decay", "head_decay"):
        if not 0 < decays[key] < 1:
            yield f"recipe.batch_norm.{key}={decays[key]}: between 0 and 1, e.g. 0.9997 (PyTorch's 1 - momentum)"
    if not 0 < scales["scale_min"] <= scales["scale_max"]:
        yield f"recipe.augmentation: 0 < scale_min={scales['scale_min']} <= scale_max={scales['scale_max']} must hold"
    if recipe["pretrained"] is not None and not Path(recipe["pretrained"]).is_file():
        yield f"recipe.pretrained={recipe['pretrained']!r} is not a file"


def _check_evaluation(config: Mapping[str, Any]) -> Iterator[str]:
    for name in config["protocols"]:
        try:
            load_protocol(name)
        except ConfigError as error:
            yield f"protocols={config['protocols']}: {error}"
    if not config["protocols"]:
        yield "protocols=[] leaves nothing to measure: e.g. protocols=[single]"


def _check_data_root(config: Mapping[str, Any]) -> Iterator[str]:
    root = config["data"]["root"]
    if root is not None and not Path(root).is_dir():
        yield f"data.root={root!r} is not a folder: give the one that holds the data set (see conf/data)"


def _check_targets(config: Mapping[str, Any]) -> Iterator[str]:
    for group in ("model", "backbone", "data"):
        try:
            check_targets(config[group], where=group)
        except ConfigError as error:
            yield str(error)


_RULES = (
    _check_targets,
    _check_output_stride,
    _check_crop,
    _check_batch,
    _check_multi_grid,
    _check_networks,
    _check_recipe,
    _check_evaluation,
    _check_data_root,
)
