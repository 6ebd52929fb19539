"""What a recipe may say beyond ranges of numbers: augmentation, precision and initial weights."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from atrous.errors import ConfigError, StoreError
from atrous.run_store import RunFolder
from atrous.weights.zoo import is_file, preset

_LEFT_OVER = 0.1  # of the initial statistics, which evaluation notices
_FORGOTTEN = 0.001
_TRIAL_STEPS = 100
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")
PREPROCESSINGS = ("inception", "rgb_mean", "imagenet")


def recipe_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """What cannot be in `recipe`, a line each: the key, its value and what would be right."""
    recipe = config["recipe"]
    least, most = recipe["augmentation"]["scale_min"], recipe["augmentation"]["scale_max"]
    if recipe["precision"] not in PRECISIONS:
        yield f"recipe.precision={recipe['precision']!r}: one of {', '.join(PRECISIONS)}"
    if recipe["preprocessing"] not in PREPROCESSINGS:
        yield f"recipe.preprocessing={recipe['preprocessing']!r}: one of {', '.join(PREPROCESSINGS)}"
    if math.isfinite(least) and math.isfinite(most) and not 0 < least <= most:
        yield f"recipe.augmentation: 0 < scale_min={least} <= scale_max={most} must hold"
    yield from _check_pretrained(recipe["pretrained"])
    wanted = _preprocessing_of(config["backbone"], recipe["pretrained"])
    if wanted is not None and recipe["preprocessing"] in PREPROCESSINGS and recipe["preprocessing"] != wanted:
        yield (
            f"recipe.preprocessing={recipe['preprocessing']!r}, but the weights of recipe.pretrained="
            f"{recipe['pretrained']!r} were trained with {wanted!r}: recipe.preprocessing={wanted}"
        )


def recipe_warnings(config: Mapping[str, Any]) -> Iterator[str]:
    """What can be run but is hardly meant, a line each: the key, its value and what would be right.

    Batch norm's running statistics begin as mean 0 and variance 1, and decay ** updates of that is left when the
    training ends. More than a tenth spoils every evaluation, however well the network has learnt. Trainings of less
    than 100 steps are trials and pass; so do frozen statistics, and those that come with initial weights.
    """
    yield from _other_rates(config)
    recipe, decays = config["recipe"], config["recipe"]["batch_norm"]
    if decays["frozen"] or recipe["max_steps"] < _TRIAL_STEPS or config["parent"] is not None:
        return
    keys = {None: ("backbone_decay", "head_decay"), "imagenet": ("head_decay",)}.get(recipe["pretrained"], ())
    updates = recipe["max_steps"] * config["trainer"]["accumulate"]
    for key in keys:
        left = decays[key] ** updates
        if left > _LEFT_OVER:
            decay = math.floor(1000 * _FORGOTTEN ** (1 / updates)) / 1000
            steps = math.ceil(math.log(_FORGOTTEN, decays[key]) / config["trainer"]["accumulate"])
            yield (
                f"recipe.batch_norm.{key}={decays[key]} with recipe.max_steps={recipe['max_steps']}: {100 * left:.0f}% "
                "of the running statistics, which evaluation uses, will still be the initial ones at the end; "
                f"recipe.batch_norm.{key}={decay:g} or less, or recipe.max_steps={steps} or more, would be right"
            )


def _preprocessing_of(backbone: Mapping[str, Any], source: str | None) -> str | None:
    """What published weights or those of a run were trained with; None for none, other files and unknown names."""
    if source is None:
        return None
    if is_file(source):
        return _preprocessing_of_run(Path(source))
    if source == "imagenet":
        is_torchvision = backbone.get("strides_in") == "first_unit" or backbone.get("padding") == "symmetric"
        return "imagenet" if is_torchvision else "inception"
    try:
        return preset(source).preprocessing
    except ConfigError:
        return None


def _preprocessing_of_run(checkpoint: Path) -> str | None:
    recipe = _section_of_run(checkpoint, "recipe")
    found = recipe.get("preprocessing")
    return found if isinstance(found, str) else None


def _section_of_run(checkpoint: Path, name: str) -> Mapping[str, Any]:
    """A section of the config of the run in whose folder a checkpoint still lies; empty where it cannot be read."""
    run = RunFolder(checkpoint.parent.parent)
    if checkpoint.suffix != ".ckpt" or not run.config_file.is_file():
        return {}
    try:
        section = run.config().get(name)
    except StoreError:
        return {}
    return section if isinstance(section, Mapping) else {}


def _other_rates(config: Mapping[str, Any]) -> Iterator[str]:
    """Weights fit a network of other atrous rates, and mean something else there."""
    source = config["recipe"]["pretrained"]
    model = {} if source is None else _section_of_run(Path(source), "model")
    for key in ("multi_grid", *(() if config["model"].get("context") else ("aspp_rates",))):
        ours, theirs = config["model"].get(key), model.get(key)
        if key in model and _rates(ours) != _rates(theirs):
            value = "null" if theirs is None else str(theirs).replace(" ", "")
            yield (
                f"model.{key}={ours}, but the weights of recipe.pretrained={source!r} were trained with {theirs}; "
                f"'model.{key}={value}' takes that"
            )


def _rates(value: Any) -> Any:
    """Rates as a value to compare: a multi-grid of ones is none."""
    return None if isinstance(value, list) and all(rate == 1 for rate in value) else value


def _check_pretrained(source: str | None) -> Iterator[str]:
    if source is None or source == "imagenet" or is_file(source):
        return
    if Path(source).is_dir():
        yield f"recipe.pretrained={source!r} is a folder; of a run, give its checkpoint: {source}/checkpoints/last.ckpt"
        return
    try:
        preset(source)
    except ConfigError as error:
        yield (
            f"recipe.pretrained={source!r} is neither a file nor the prefix of a TensorFlow checkpoint nor imagenet; "
            f"as a name: {error}"
        )
