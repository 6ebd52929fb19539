"""Configs become objects of atrous, and nothing else."""

from collections import OrderedDict

import pytest

from atrous.building import build, check_targets
from atrous.data import Shapes
from atrous.errors import ConfigError, DataError
from atrous.evaluation.protocol import Protocol

SHAPES = {"_target_": "atrous.data.Shapes", "split": "val", "size": 33, "length": 2}


def test_a_node_becomes_the_object_it_names() -> None:
    shapes = build(SHAPES, where="data.val")
    assert isinstance(shapes, Shapes)
    assert len(shapes) == 2


def test_further_arguments_join_those_of_the_node() -> None:
    protocol = build({"_target_": "atrous.evaluation.protocol.Protocol", "flip": True}, where="p", scales=[0.5, 1.0])
    assert protocol == Protocol(scales=[0.5, 1.0], flip=True)


def test_arguments_are_plain_lists_and_dicts() -> None:
    protocol = build({"_target_": "atrous.evaluation.protocol.Protocol", "scales": [0.5]}, where="p")
    assert type(protocol.scales) is list


@pytest.mark.parametrize("target", ["os.system", "torch.load", "atrousx.Thing", "builtins.eval"])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_targets_outside_of_atrous_are_refused_at_any_depth(target: str, depth: int) -> None:
    node: dict[str, object] = {"_target_": target}
    for _ in range(depth):
        node = {"_target_": "atrous.data.Shapes", "inner": [node]}
    with pytest.raises(ConfigError, match=target):
        build(node, where="data.train")
    with pytest.raises(ConfigError, match=r"data\.train"):
        check_targets(OrderedDict(node), where="data.train")


def test_an_argument_that_does_not_exist_is_named_with_its_key() -> None:
    with pytest.raises(ConfigError, match=r"^data\.val: .*colour"):
        build({**SHAPES, "colour": "red"}, where="data.val")


def test_a_class_that_does_not_exist_is_named_with_its_key() -> None:
    with pytest.raises(ConfigError, match=r"^data\.val: .*Circles"):
        build({"_target_": "atrous.data.Circles"}, where="data.val")


def test_what_a_constructor_refuses_stays_its_own_error() -> None:
    with pytest.raises((ConfigError, DataError), match="split"):
        build({**SHAPES, "split": "holidays"}, where="data.val")
