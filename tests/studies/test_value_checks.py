"""The range of every number: what is outside is told with its value and what would be right."""

from collections.abc import Callable
from typing import Any

import pytest
from omegaconf import DictConfig

from atrous.errors import ConfigError
from atrous.studies.checks import check
from atrous.studies.configuration import resolve
from atrous.studies.value_checks import value_problems

Compose = Callable[..., DictConfig]
Changed = Callable[[dict[str, Any]], dict[str, Any]]
INFINITE, NONE = float("inf"), float("nan")
OPTIMIZER, AUGMENTATION, NORM = "recipe.optimizer", "recipe.augmentation", "recipe.batch_norm"
CHANNELS = "a whole number from 1 to 65536"
BLUR = {"_target_": "albumentations.ColorJitter", "p": INFINITE}


@pytest.mark.counted
@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("seed", -1, "seed=-1: a whole number from 0"),
        ("seed", 2**64, "seed=18446744073709551616: a whole number from 0 to 2**64 - 1"),
        ("model.aspp_channels", 0, CHANNELS),
        ("model.aspp_channels", 2**40, CHANNELS),
        ("model.low_level_channels", 0, CHANNELS),
        ("model.dropout", 1.0, "at least 0 and below 1"),
        ("model.dropout", -0.1, "at least 0 and below 1"),
        ("model.dropout", NONE, "at least 0 and below 1"),
        ("model.context", {"channels": "many"}, "model.context.channels=many"),
        ("model.context", {"dropout": 2}, "model.context.dropout=2"),
        ("backbone.width", 0, "more than 0"),
        ("data.val_batch_size", 0, "at least 1"),
        ("data.num_workers", -1, "at least 0"),
        ("data.bootstrap.factor", 0, "at least 1"),
        ("data.evaluation_size", [513], "two positive numbers"),
        ("data.evaluation_size", [513, 0], "two positive numbers"),
        ("data.evaluation_size", 513, "two positive numbers"),
        ("recipe.max_steps", 0, "at least 1"),
        (f"{OPTIMIZER}.lr", 0.0, "more than 0"),
        (f"{OPTIMIZER}.lr", INFINITE, "finite, e.g. 0.007"),
        (f"{OPTIMIZER}.lr", NONE, "finite, e.g. 0.007"),
        (f"{OPTIMIZER}.momentum", 1.0, "below 1, e.g. 0.9"),
        (f"{OPTIMIZER}.momentum", -0.5, "below 1, e.g. 0.9"),
        (f"{OPTIMIZER}.weight_decay", -1e-4, "at least 0"),
        (f"{OPTIMIZER}.weight_decay", INFINITE, "finite"),
        (f"{OPTIMIZER}.bias_lr_multiplier", -1.0, "at least 0"),
        (f"{OPTIMIZER}.poly_power", -0.9, "0 for a constant learning rate"),
        (f"{NORM}.head_decay", 1.0, "0.9997"),
        (f"{NORM}.backbone_decay", NONE, "0.9997"),
        (f"{AUGMENTATION}.scale_max", INFINITE, "a finite number"),
        (f"{AUGMENTATION}.scale_min", NONE, "a finite number"),
        (f"{AUGMENTATION}.scale_step", -0.25, "0 for any scale"),
        (f"{AUGMENTATION}.flip_probability", 1.5, "from 0 to 1"),
        (f"{AUGMENTATION}.transforms", [BLUR], "transforms[0].p=inf: a finite number"),
        ("trainer.threads", -2, "at least 0"),
        ("trainer.threads", 100_000, "at most 1024"),
        ("trainer.val_every", -1, "at least 0"),
        ("trainer.checkpoint_every", 0, "at least 1"),
        ("trainer.log_every", 0, "at least 1"),
        ("trainer.stop_at_step", -1, "or null to train to the end"),
        ("trainer.timeout_seconds", -1.0, "0 to wait for ever"),
        ("trainer.timeout_seconds", INFINITE, "0 to wait for ever"),
        ("trainer.restarts", -1, "at least 0"),
        ("logger.wandb", {"images": -1}, "logger.wandb.images=-1"),
        ("logger.wandb", {"patience": INFINITE}, "logger.wandb.patience=inf"),
        ("logger.wandb", {"patience": 0.0}, "logger.wandb.patience=0.0: seconds, more than 0"),
    ],
)
def test_what_is_out_of_range_is_told_with_what_would_be_right(
    changed: Changed, key: str, value: Any, words: str
) -> None:
    (problem,) = value_problems(changed({key: value}))
    assert key in problem
    assert words in problem


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 2**64 - 1),
        ("model.dropout", 0),
        ("data.evaluation_size", [513, 1025]),
        (f"{OPTIMIZER}.momentum", 0.0),
        (f"{OPTIMIZER}.poly_power", 0.0),
        (f"{OPTIMIZER}.weight_decay", 0.0),
        (f"{AUGMENTATION}.flip_probability", 1.0),
        ("trainer.val_every", 1000000),
        ("trainer.stop_at_step", None),
        ("trainer.timeout_seconds", 0.0),
        ("trainer.restarts", 0),
    ],
)
def test_the_ends_of_a_range_are_let_through(changed: Changed, key: str, value: Any) -> None:
    assert list(value_problems(changed({key: value}))) == []


def test_several_numbers_are_told_a_line_each_by_the_check_of_a_run(composed: Compose) -> None:
    overrides = ("seed=-1", f"{OPTIMIZER}.momentum=2", f"{AUGMENTATION}.scale_max=inf", "trainer.threads=-2")
    with pytest.raises(ConfigError) as caught:
        check(resolve(composed(*overrides)))
    keys = [line.partition("=")[0] for line in str(caught.value).splitlines()]
    assert sorted(keys) == sorted(text.partition("=")[0] for text in overrides)
