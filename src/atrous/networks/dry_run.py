"""A forward pass that only works out shapes, and says what every module of interest put out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

OnOutput = Callable[[str, nn.Module, Tensor], None]


def without_weights() -> torch.device:
    """Return a context in which networks are built without memory for their weights: enough to count and to draw."""
    return torch.device("meta")


def dry_run(model: nn.Module, *, size: Sequence[int], kinds: tuple[type[nn.Module], ...], on_output: OnOutput) -> None:
    """Run a network on PyTorch's meta device, in evaluation mode, and leave it as it was.

    Args:
        model: A network that takes images [1, 3, H, W].
        size: (H, W) in pixels.
        kinds: The modules to watch.
        on_output: Told (name, module, output) for each of them, in the order of the forward pass.
    """

    def tell(name: str, module: nn.Module, _inputs: object, output: Tensor) -> None:
        on_output(name, module, output)

    watched = [(name, module) for name, module in model.named_modules() if isinstance(module, kinds)]
    hooks = [module.register_forward_hook(partial(tell, name)) for name, module in watched]
    try:
        with evaluating(model), torch.no_grad(), _BatchNormPasses():
            state = {name: _without_data(tensor) for name, tensor in model.state_dict(keep_vars=True).items()}
            image = torch.empty(1, 3, *size, dtype=torch.float32, device="meta")
            torch.func.functional_call(model, state, image)
    finally:
        for hook in hooks:
            hook.remove()


def _without_data(tensor: Tensor) -> Tensor:
    """The shape of a tensor, in float32 where it is of floats: the counts of a network are those of any precision."""
    return tensor.detach().to("meta", torch.float32 if tensor.is_floating_point() else tensor.dtype)


class _BatchNormPasses(TorchFunctionMode):
    """Batch norm keeps the shape; to work that out takes PyTorch two thirds of a network's dry run."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.batch_norm:
            return args[0]
        return func(*args, **(kwargs or {}))


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module into evaluation mode, and each back into its own afterwards."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode
