"""The range of every number of a run: a table of keys, what holds for a right value, and how to say so."""

from collections.abc import Callable, Iterator, Mapping
from math import inf, isfinite
from typing import Any

from atrous.hardware import MOST_THREADS
from atrous.studies.shape_checks import LARGEST

_Rule = tuple[str, Callable[[Any], bool], str]

_LARGEST_SEED = 2**64 - 1  # that torch takes; numpy's keys have no bound


def value_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """What is outside of its range, a line each: the key, its value and what would be right.

    A key that a network or a data set does not have, and one that may be null and is, has nothing to be wrong.
    """
    for key, is_right, right in _RULES:
        value = _value(config, key)
        if value is not None and not (_is_number(value) and is_right(value)):
            yield f"{key}={value}: {right}"
    size = config["data"]["evaluation_size"]
    if size is not None and not _is_size(size):
        yield f"data.evaluation_size={size}: two positive numbers, [height,width], or null"
    ruled = {key for key, _, _ in _RULES}
    for key, number in _numbers(config["recipe"], "recipe"):
        if key not in ruled and isinstance(number, float) and not isfinite(number):
            yield f"{key}={number}: a finite number"


def _value(config: Any, key: str) -> Any:
    """The value of a dotted key; None where there is none."""
    for name in key.split("."):
        config = config.get(name) if isinstance(config, Mapping) else None
    return config


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _is_size(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(_is_number(side) and side >= 1 for side in value)


def _numbers(node: Any, name: str) -> Iterator[tuple[str, int | float]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _numbers(value, f"{name}.{key}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _numbers(value, f"{name}[{index}]")
    elif _is_number(node):
        yield name, node


# Comparisons are written so that NaN, of which none is true, is refused.


def _at_least(least: int, most: float = inf) -> Callable[[Any], bool]:
    return lambda value: bool(least <= value < inf and value <= most)


def _is_above_0(value: Any) -> bool:
    return bool(0 < value < inf)


def _is_below_1(value: Any) -> bool:
    return bool(0 <= value < 1)


def _is_decay(value: Any) -> bool:
    return bool(0 < value < 1)


_DECAY = "between 0 and 1, e.g. 0.9997 (PyTorch's 1 - momentum)"
_CHANNELS = f"a whole number from 1 to {LARGEST}"
_DROPOUT = "at least 0 and below 1, e.g. 0.1"

_RULES: tuple[_Rule, ...] = (
    ("seed", _at_least(0, _LARGEST_SEED), "a whole number from 0 to 2**64 - 1"),
    ("model.aspp_channels", _at_least(1, LARGEST), _CHANNELS),
    ("model.low_level_channels", _at_least(1, LARGEST), _CHANNELS),
    ("model.context.channels", _at_least(1, LARGEST), _CHANNELS),
    ("model.dropout", _is_below_1, _DROPOUT),
    ("model.context.dropout", _is_below_1, _DROPOUT),
    ("backbone.width", _is_above_0, "more than 0 and finite, e.g. 64 for a ResNet, 1 for others"),
    ("backbone.epsilon", _is_above_0, "more than 0 and finite, e.g. 0.001"),
    ("backbone.divisible_by", _at_least(1), "at least 1, e.g. 8"),
    ("data.val_batch_size", _at_least(1), "at least 1"),
    ("data.num_workers", _at_least(0), "at least 0, which loads in the training's own process"),
    ("data.bootstrap.factor", _at_least(1), "at least 1, which repeats nothing"),
    ("recipe.max_steps", _at_least(1), "at least 1"),
    ("recipe.optimizer.lr", _is_above_0, "more than 0 and finite, e.g. 0.007"),
    ("recipe.optimizer.momentum", _is_below_1, "at least 0 and below 1, e.g. 0.9"),
    ("recipe.optimizer.weight_decay", _at_least(0), "at least 0 and finite, e.g. 0.00004"),
    ("recipe.optimizer.bias_lr_multiplier", _at_least(0), "at least 0 and finite, e.g. 2"),
    ("recipe.optimizer.poly_power", _at_least(0), "at least 0 and finite, e.g. 0.9, or 0 for a constant learning rate"),
    ("recipe.batch_norm.backbone_decay", _is_decay, _DECAY),
    ("recipe.batch_norm.head_decay", _is_decay, _DECAY),
    ("recipe.augmentation.scale_step", _at_least(0), "at least 0 and finite, e.g. 0.25, or 0 for any scale"),
    ("recipe.augmentation.flip_probability", lambda value: bool(0 <= value <= 1), "from 0 to 1, e.g. 0.5"),
    ("trainer.threads", _at_least(0, MOST_THREADS), f"at least 0, which takes all cores, and at most {MOST_THREADS}"),
    ("trainer.val_every", _at_least(0), "at least 0, which validates ten times in a training"),
    ("trainer.checkpoint_every", _at_least(1), "at least 1"),
    ("trainer.log_every", _at_least(1), "at least 1"),
    ("trainer.stop_at_step", _at_least(1), "at least 1, or null to train to the end"),
    ("trainer.timeout_seconds", _at_least(0), "seconds, e.g. 600, or 0 to wait for ever"),
    ("trainer.restarts", _at_least(0), "at least 0, which never starts a run again"),
    ("logger.wandb.images", _at_least(0), "at least 0, which sends none"),
    ("logger.wandb.patience", _is_above_0, "seconds, more than 0, e.g. 30"),
)
