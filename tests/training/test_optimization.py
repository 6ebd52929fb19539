"""Parameter groups and the poly schedule."""

import pytest
import torch
from torch import nn

from atrous.training.optimization import parameter_groups, sgd_with_poly


def test_only_dense_convolutions_decay_and_biases_learn_twice_as_fast() -> None:
    model = nn.Sequential(
        nn.Conv2d(8, 8, 3, bias=False), nn.Conv2d(8, 8, 3, groups=8, bias=False), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1)
    )
    groups = {
        group["name"]: group for group in parameter_groups(model, lr=0.1, weight_decay=1e-4, bias_lr_multiplier=2.0)
    }
    assert [parameter.shape for parameter in groups["convolutions"]["params"]] == [
        model[0].weight.shape,
        model[3].weight.shape,
    ]
    assert groups["convolutions"]["weight_decay"] == 1e-4
    assert groups["batch_norm"]["params"] == [model[1].weight, model[2].weight, model[2].bias]
    assert groups["batch_norm"]["weight_decay"] == 0
    assert groups["biases"] | {"params": None} == {"name": "biases", "lr": 0.2, "weight_decay": 0.0, "params": None}
    assert groups["biases"]["params"] == [model[3].bias]


def test_frozen_parameters_are_in_no_group() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4).requires_grad_(False))
    groups = parameter_groups(model, lr=0.1, weight_decay=0.0, bias_lr_multiplier=1.0)
    assert sum(len(group["params"]) for group in groups) == 2


def test_poly_follows_its_closed_form_per_step() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    optimizer, schedule = sgd_with_poly([{"params": [parameter], "lr": 0.007}], momentum=0.9, max_steps=10, power=0.9)
    for step in range(10):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.007 * (1 - step / 10) ** 0.9)
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == 0
    assert optimizer.defaults["fused"], "one kernel for all parameters"


@pytest.mark.parametrize("before", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("after", [torch.contiguous_format, torch.channels_last])
def test_a_momentum_that_was_saved_in_another_memory_format_goes_on(
    before: torch.memory_format, after: torch.memory_format
) -> None:
    draw = torch.Generator().manual_seed(0)
    gradients = [torch.randn(4, 5, 3, 3, generator=draw) for _ in range(3)]
    weight = torch.randn(4, 5, 3, 3, generator=draw)
    exact = nn.Parameter(weight.double())
    plain = torch.optim.SGD([exact], lr=0.1, momentum=0.9)

    def start(weight: torch.Tensor, memory_format: torch.memory_format) -> tuple[nn.Parameter, torch.optim.SGD]:
        parameter = nn.Parameter(weight.clone(memory_format=memory_format))
        return parameter, sgd_with_poly([{"params": [parameter], "lr": 0.1}], momentum=0.9, max_steps=10, power=0.9)[0]

    parameter, optimizer = start(weight, before)
    for step, gradient in enumerate(gradients):
        if step == 2:
            saved = optimizer.state_dict()
            parameter, optimizer = start(parameter.detach(), after)
            optimizer.load_state_dict(saved)
        parameter.grad, exact.grad = gradient.clone(memory_format=after if step == 2 else before), gradient.double()
        optimizer.step()
        plain.step()
    torch.testing.assert_close(parameter.double(), exact)
    assert optimizer.state[parameter]["momentum_buffer"].stride() == parameter.stride()
