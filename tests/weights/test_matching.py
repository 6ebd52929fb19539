"""Loading by name is all or nothing, and its errors list names."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from atrous.errors import CheckpointError
from atrous.weights.matching import dense_tensors, load_by_name


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))


def test_values_arrive_and_what_is_left_is_named() -> None:
    network = model()
    value = torch.full((3, 2), 7.0)
    report = load_by_name(network, targets={"w": network.get_parameter("0.weight")}, values={"w": value}, source="it")
    assert torch.equal(network.get_parameter("0.weight"), value)
    assert report.loaded == ("w",)
    assert report.left == ("0.bias", "1.weight", "1.bias")


def test_missing_surplus_and_misshaped_names_are_listed_and_nothing_is_written() -> None:
    network = model()
    before = [parameter.clone() for parameter in network.parameters()]
    targets = dict(network.named_parameters())
    values = {"0.weight": torch.ones(3, 2), "0.bias": torch.ones(4), "stranger": torch.ones(1), "1.bias": torch.ones(1)}
    with pytest.raises(CheckpointError) as caught:
        load_by_name(network, targets=targets, values=values, source="the file")
    assert str(caught.value) == (
        "the file does not fit this network; 1 missing: 1.weight; 1 surplus: stranger; "
        "1 of another shape: 0.bias is (4,), wanted (3,)"
    )
    assert all(torch.equal(now, then) for now, then in zip(network.parameters(), before, strict=True))


def test_what_may_be_of_another_shape_keeps_its_values_as_a_whole() -> None:
    network = model()
    before = {name: parameter.clone() for name, parameter in network.named_parameters()}
    targets = dict(network.named_parameters())
    values = {
        "0.weight": torch.ones(3, 2),
        "0.bias": torch.ones(3),
        "1.weight": torch.ones(9, 3),
        "1.bias": torch.ones(1),
    }
    report = load_by_name(network, targets=targets, values=values, source="it", resizable=["1.weight", "1.bias"])
    assert report.loaded == ("0.weight", "0.bias")
    assert report.left == ("1.weight", "1.bias")
    assert torch.equal(targets["0.weight"], values["0.weight"])
    assert all(torch.equal(targets[name], before[name]) for name in report.left)
    values["1.weight"] = torch.ones(1, 3)
    report = load_by_name(network, targets=targets, values=values, source="it", resizable=["1.weight", "1.bias"])
    assert report.left == ()
    assert torch.equal(targets["1.weight"], values["1.weight"])


def test_many_names_are_shortened() -> None:
    with pytest.raises(CheckpointError, match=r"9 surplus: 0, 1, 2, 3, 4, 5 and 3 more$"):
        load_by_name(model(), targets={}, values={str(n): torch.ones(1) for n in range(9)}, source="it")


def test_a_shape_without_values_is_refused() -> None:
    network = model()
    values = {**dict(network.named_parameters()), "1.weight": torch.ones(1, 3, device="meta")}
    with pytest.raises(CheckpointError, match=r"1 without values, on PyTorch's device meta: 1\.weight$"):
        load_by_name(network, targets=dict(network.named_parameters()), values=values, source="it")


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.complex64])
def test_no_integers_and_no_complex_numbers_are_taken_for_floats(dtype: torch.dtype) -> None:
    network = model()
    before = [parameter.clone() for parameter in network.parameters()]
    values = {**dict(network.named_parameters()), "1.weight": torch.ones(1, 3, dtype=dtype), "0.bias": torch.zeros(3)}
    word = str(dtype).removeprefix("torch.")
    with pytest.raises(CheckpointError, match=rf"1 of another kind: 1\.weight is {word}, wanted float32$"):
        load_by_name(network, targets=dict(network.named_parameters()), values=values, source="it")
    assert all(torch.equal(now, then) for now, then in zip(network.parameters(), before, strict=True))
    values["1.weight"] = torch.ones(1, 3, dtype=torch.float16)
    load_by_name(network, targets=dict(network.named_parameters()), values=values, source="it")
    assert bool((network.get_parameter("1.weight") == 1).all())


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"a": torch.ones(1), "b": 3}, "b is of type int, expected a tensor"),
        ({3: torch.ones(1)}, "its entry 3 has no name"),
        ({"a": torch.eye(2).to_sparse()}, "a is sparse_coo, expected a dense tensor"),
        (None, "a is quantised, expected a dense tensor"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*quantize_per_tensor")
def test_what_is_no_dense_tensor_with_a_name_is_named(entries: dict[Any, Any] | None, words: str) -> None:
    given = entries or {"a": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)}
    with pytest.raises(CheckpointError, match=f"^it holds no state dict of tensors: {words}$"):
        dense_tensors(given, source="it")
    assert dense_tensors({"a": torch.ones(1)}, source="it")["a"].tolist() == [1]
