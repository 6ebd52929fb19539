"""Everything that can be known to fail, fails here: within seconds, before a library is imported or data is touched."""

from collections.abc import Iterator, Mapping
from typing import Any

from atrous.boards.modes import LONGEST_PROJECT, MODES, NOT_IN_PROJECT
from atrous.building import TRANSFORMS, check_targets
from atrous.errors import ConfigError
from atrous.evaluation.protocol import load_protocol
from atrous.evaluation.servers import SERVER_NAMES
from atrous.files import at_home
from atrous.networks import unit_strides
from atrous.networks.output_stride import aspp_rates_at, check_output_stride
from atrous.studies.machine_checks import accelerator_problems
from atrous.studies.recipe_checks import recipe_problems
from atrous.studies.shape_checks import LARGEST, shape_problems
from atrous.studies.trainer_checks import trainer_problems
from atrous.studies.value_checks import value_problems

_WITHOUT_CASCADE = ("Xception", "MobileNetV2", "TimmBackbone")  # what is not known here, its own constructor refuses
_WITHOUT_MULTI_GRID = ("MobileNetV2", "TimmBackbone")


def check(config: Mapping[str, Any]) -> None:
    """Refuse what cannot be run, one rule per decision.

    Raises:
        ConfigError: one line per problem: the key, its value and what would be right.
    """
    problems = list(shape_problems(config)) or [problem for rule in _RULES for problem in rule(config)]
    if problems:
        raise ConfigError("\n".join(problems))


def _check_output_stride(config: Mapping[str, Any]) -> Iterator[str]:
    backbone, blocks = config["backbone"], config["model"].get("blocks", 4)
    kind, units = _kind(backbone), backbone.get("units", ())
    if kind == "ResNet" and (len(units) != 4 or min(units) < 1 or not 4 <= blocks <= 7):
        yield f"backbone.units={units} needs four positive counts, model.blocks={blocks} a value from 4 to 7"
        return
    if kind in _WITHOUT_CASCADE and blocks != 4:
        yield f"model.blocks={blocks}: only a ResNet has blocks 5 to 7; use backbone=resnet101, or model.blocks=4"
        return
    yield from _impossible_stride(config, config["output_stride"])


def _kind(backbone: Mapping[str, Any]) -> str:
    return str(backbone["_target_"]).rsplit(".", 1)[-1]


def _impossible_stride(config: Mapping[str, Any], output_stride: int) -> Iterator[str]:
    try:
        strides = unit_strides.of_config(config["backbone"], blocks=config["model"].get("blocks", 4))
        if strides is not None:
            check_output_stride(output_stride, unit_strides=strides.units, stem_stride=strides.stem)
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
    if crop > LARGEST + 1:
        yield f"recipe.crop_size={crop} is too large: at most {LARGEST + 1}"


def _check_batch(config: Mapping[str, Any]) -> Iterator[str]:
    trainer, recipe = config["trainer"], config["recipe"]
    nodes, devices, accumulate = trainer["nodes"], trainer["devices"], trainer["accumulate"]
    size, shown = recipe["batch_size"], f"trainer.devices={devices}"
    if nodes != 1:
        shown = f"trainer.nodes={nodes} x {shown}"
    if min(nodes, devices, accumulate, size) < 1:
        values = f"{shown}, trainer.accumulate={accumulate} and recipe.batch_size={size}"
        yield f"{values} must all be at least 1"
        return
    each, parts = trainer["batch_per_device"], nodes * devices * accumulate
    if each is None and size % parts:
        below = size // parts * parts
        right = f"{below} or {below + parts}" if below else f"{parts}"
        yield (
            f"recipe.batch_size={size} (the global batch) cannot be shared out: {shown} x "
            f"trainer.accumulate={accumulate} must divide it; {right} would be right"
        )
        return
    each = size // parts if each is None else each
    if parts * each != size:
        yield (
            f"{shown} x trainer.batch_per_device={each} x trainer.accumulate={accumulate} = "
            f"{parts * each}, but recipe.batch_size={size} (the global batch): they must be equal"
        )
    elif size == accumulate and not recipe["batch_norm"]["frozen"]:
        yield (
            f"recipe.batch_size={size} leaves batch norm, which trains, one image at a time (trainer.accumulate="
            f"{accumulate}; it sees those of all devices): use at least 2, or recipe.batch_norm.frozen=true"
        )


def _check_multi_grid(config: Mapping[str, Any]) -> Iterator[str]:
    grid, backbone = config["model"].get("multi_grid"), config["backbone"]
    kind, units = _kind(backbone), backbone.get("units", ())
    wanted = {"ResNet": units[3] if len(units) == 4 else None, "Xception": 3}.get(kind)
    if grid is None:
        return
    if kind in _WITHOUT_MULTI_GRID and set(grid) != {1}:
        yield f"model.multi_grid={grid}: {kind} has no multi-grid; use null"
    elif wanted is not None and (len(grid) != wanted or min(grid) < 1):
        parts = "units of block 4" if kind == "ResNet" else "convolutions of the last unit"
        yield (
            f"model.multi_grid={grid} needs a rate of at least 1 for each of the {wanted} {parts}, "
            f"e.g. [{','.join(str(2**unit) for unit in range(wanted))}]"
        )


def _check_networks(config: Mapping[str, Any]) -> Iterator[str]:
    choices = {"unit": ("basic", "bottleneck"), "stem": ("beta", "7x7"), "padding": ("same", "symmetric")}
    for key, values in choices.items():
        if config["backbone"].get(key, values[0]) not in values:
            yield f"backbone.{key}={config['backbone'][key]!r}: one of {', '.join(values)}"
    try:
        aspp_rates_at(config["model"].get("aspp_rates", ()), 16)
    except ConfigError as error:
        yield f"model.{error}"
    low_levels = config["model"].get("low_levels", [4])
    if low_levels not in ([4], [8], [8, 4]):
        yield f"model.low_levels={low_levels}: [4], [8] or [8,4], from coarse to fine"


def _check_evaluation(config: Mapping[str, Any]) -> Iterator[str]:
    for name in config["protocols"]:
        try:
            protocol = load_protocol(name)
        except ConfigError as error:
            yield f"protocols={config['protocols']}: {error}"
            continue
        stride = protocol.output_stride
        if stride is not None and stride != config["output_stride"]:
            # an impossible network is told by its own rule
            yield from (f"protocol {name}: {text}" for text in _impossible_stride(config, stride))
    if not config["protocols"]:
        yield "protocols=[] leaves nothing to measure: e.g. protocols=[single]"
    if config["submission"] not in (None, *SERVER_NAMES):
        yield f"submission={config['submission']!r}: one of {', '.join(SERVER_NAMES)}, or null"


def _check_logger(config: Mapping[str, Any]) -> Iterator[str]:
    settings = config["logger"]["wandb"]
    if settings is None:
        return
    if settings["mode"] not in MODES:
        yield f"logger.wandb.mode={settings['mode']!r}: one of {', '.join(MODES)}"
    project = settings["project"]
    if len(project) > LONGEST_PROJECT or any(sign in project for sign in NOT_IN_PROJECT):
        signs = " ".join(NOT_IN_PROJECT)
        yield (
            f"logger.wandb.project={project!r}: W&B takes at most {LONGEST_PROJECT} characters and none of {signs} "
            "(a team is logger.wandb.entity)"
        )


def _check_data_root(config: Mapping[str, Any]) -> Iterator[str]:
    root = config["data"]["root"]
    if root is not None and not at_home(root).is_dir():
        yield f"data.root={root!r} is not a folder: give the one that holds the data set (see conf/data)"


def _check_targets(config: Mapping[str, Any]) -> Iterator[str]:
    for group in ("model", "backbone", "data"):
        try:
            check_targets(config[group], where=group)
        except ConfigError as error:
            yield str(error)
    for index, transform in enumerate(config["recipe"]["augmentation"]["transforms"]):
        try:
            check_targets(transform, where=f"recipe.augmentation.transforms[{index}]", allowed=TRANSFORMS)
        except ConfigError as error:
            yield str(error)


_RULES = (
    _check_targets,
    _check_output_stride,
    _check_crop,
    _check_batch,
    _check_multi_grid,
    _check_networks,
    value_problems,
    recipe_problems,
    _check_evaluation,
    _check_logger,
    _check_data_root,
    trainer_problems,
    accelerator_problems,
)
