"""A warning for a loss that does not fall: heard when it should be, and not otherwise."""

import math
import random
from collections.abc import Callable

import pytest

from atrous.data.shapes import SHAPES_SPEC
from atrous.training.trend import Trend

GUESS = math.log(21)


def _warnings(loss: Callable[[int], float], *, every: int = 10, steps: int = 600, noise: float = 0.15) -> list[int]:
    """The steps at which a warning is given, for a course of the loss with seeded noise."""
    chance, trend = random.Random(7), Trend(classes=21, every=every)
    noisy = ((step, loss(step) * (1 + chance.uniform(-noise, noise))) for step in range(every, steps + 1, every))
    return [step for step, value in noisy if trend.warning(step, value, lr=0.1) is not None]


@pytest.mark.parametrize("every", [1, 10, 20])
def test_a_flat_loss_is_told_once(every: int) -> None:
    trend = Trend(classes=21, every=every)
    found = [(step, text) for step in range(every, 1000, every) if (text := trend.warning(step, GUESS, lr=0.25))]
    assert [step for step, _ in found] == [200]
    assert "recipe.optimizer.lr=0.25" in found[0][1]
    assert "atrous-data show" in found[0][1]


def test_a_rising_loss_is_told() -> None:
    assert _warnings(lambda step: GUESS + step / 100) == [200]


@pytest.mark.parametrize("seed", range(20))
def test_a_falling_loss_is_not_told_even_with_noise(seed: int) -> None:
    chance = random.Random(seed)
    floor, horizon = chance.uniform(0.2, 1.0), chance.uniform(40, 200)
    assert _warnings(lambda step: floor + (GUESS - floor) * math.exp(-step / horizon)) == []


def test_a_fine_tuning_with_little_left_to_learn_is_not_told() -> None:
    assert _warnings(lambda _: 0.25) == []


def test_a_training_that_is_shorter_than_the_rule_needs_is_not_told() -> None:
    assert _warnings(lambda _: GUESS, steps=190) == []


def test_sparse_entries_are_waited_for() -> None:
    assert _warnings(lambda _: GUESS, every=50, steps=1000, noise=0.0) == [500]


@pytest.mark.parametrize(("left_out", "told"), [(0, True), (5, True), (6, False)])
def test_a_window_most_of_whose_steps_were_left_out_says_nothing(left_out: int, told: bool) -> None:
    steps = list(range(10, 201, 10))
    for seen in (steps[left_out:], steps[:10] + steps[10 + left_out :]):
        trend = Trend(classes=21, every=10)
        warnings = [trend.warning(step, GUESS, lr=0.1) for step in seen]
        assert (warnings[-1] is not None) is told


def test_the_recipe_of_shapes_is_not_told() -> None:
    """The losses of `atrous-train data=shapes backbone=tiny model=deeplabv3_tiny`, as its metrics.csv has them."""
    losses: tuple[float, ...] = (
        1.71587,
        0.765112,
        0.748076,
        0.581617,
        0.632445,
        0.54852,
        0.485452,
        0.607085,
        0.560229,
        0.410256,
    )
    losses += (0.519489, 0.420998, 0.478873, 0.423957, 0.476246, 0.546062, 0.451115, 0.493727, 0.55249, 0.458575)
    trend = Trend(classes=SHAPES_SPEC.num_classes, every=10)
    assert [trend.warning(10 * entry, loss, lr=0.1) for entry, loss in enumerate(losses, 1)] == [None] * 20


def test_a_training_that_goes_on_is_told_once_and_by_its_first_steps() -> None:
    trend = Trend(classes=21, every=10)
    assert [trend.warning(step, GUESS, lr=0.1) for step in range(10, 160, 10)] == [None] * 15
    again = Trend(classes=21, every=10)
    again.restore(trend.state())
    told = [step for step in range(160, 400, 10) if again.warning(step, GUESS, lr=0.1) is not None]
    assert told == [200]
    late = Trend(classes=21, every=10)
    late.restore(again.state())
    assert [late.warning(step, 100 * GUESS, lr=0.1) for step in range(400, 800, 10)] == [None] * 40


def test_a_training_that_goes_on_late_from_an_older_checkpoint_has_nothing_to_say() -> None:
    trend = Trend(classes=21, every=10)
    assert [trend.warning(step, GUESS, lr=0.1) for step in range(5000, 6000, 10)] == [None] * 100
