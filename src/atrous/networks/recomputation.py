"""Maps that batch norm, ReLU, sums and resizing make are not kept for the backward pass but computed again.

The output of a convolution has to be kept: the gradient of its batch norm reads it. What batch norm and ReLU make of
it is a second map of the same size that the next convolution reads, and soon made once more: about half of the memory
of the maps for about a tenth more time on a CPU (checkpointing as in Rota Bulò et al., arXiv:1712.02616, carried over
residual sums). Since the same kernels read the same numbers again, every bit stays as it is.

`saved_tensors_hooks` see what autograd saves. A map that came from `recomputed` is saved as its recipe, which ends in
convolutions' outputs. A recipe keeps its map from its first reader in the backward pass to its last, so that each map
is made again once, also along the sums of a stage.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from atrous.networks.held_settings import as_set_now

Compute = Callable[..., Tensor]
_Key = tuple[int, int, torch.Size, tuple[int, ...], torch.dtype]


class _Kept:
    """A tensor that is kept, without its history: autograd's graph holds what is saved, which would hold the graph."""

    __slots__ = ("_version", "tensor")

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor if tensor.grad_fn is None else tensor.detach()
        self._version = tensor._version

    def read(self) -> Tensor:
        if self.tensor._version != self._version:  # PyTorch looks only where nobody else says what is saved
            raise RuntimeError(
                "one of the variables needed for gradient computation has been modified by an inplace operation: "
                f"a map {list(self.tensor.shape)} is at version {self.tensor._version}, expected {self._version}"
            )
        return self.tensor


class _Recipe:
    """How a map is computed again.

    Attributes:
        readers: How many readers of the map are left in the backward pass: what autograd saved, and other recipes.
    """

    __slots__ = ("_compute", "_sources", "_value", "readers")

    def __init__(self, compute: Compute, sources: Sequence[_Recipe | _Kept]) -> None:
        self._compute, self._sources = compute, sources
        self._value: Tensor | None = None
        self.readers = 0
        for source in sources:
            if isinstance(source, _Recipe):
                source.readers += 1

    def read(self) -> Tensor:
        value = self._value
        if value is None:
            value = self._compute(*(source.read() for source in self._sources))
        self.readers -= 1
        self._value = value if self.readers > 0 else None
        return value


class _Saved:
    """What autograd holds in place of a tensor."""

    __slots__ = ("content",)

    def __init__(self, content: _Kept | _Recipe) -> None:
        self.content = content


class _Tape:
    """The maps of one forward pass that can be computed again."""

    def __init__(self, *, depthwise: bool) -> None:
        self.depthwise = depthwise
        self._known: dict[_Key, tuple[weakref.ref[Tensor], _Recipe]] = {}
        self._just_saved: list[_Saved] | None = None  # in `run`

    def forget(self) -> None:
        """Leave each recipe to its readers: autograd may hold the tape until the last map is read."""
        self._known.clear()

    def save(self, tensor: Tensor) -> _Saved:
        recipe = self.recipe_of(tensor)
        if recipe is not None:
            recipe.readers += 1
        saved = _Saved(recipe or _Kept(tensor))
        if self._just_saved is not None:
            self._just_saved.append(saved)
        return saved

    def recipe_of(self, tensor: Tensor) -> _Recipe | None:
        known, recipe = self._known.get(_key(tensor), (None, None))
        # Only while the map itself is alive: its place may hold another later.
        return recipe if known is not None and known() is not None else None

    def run(self, compute: Compute, again: Compute, inputs: tuple[Tensor, ...]) -> Tensor:
        sources = [self.recipe_of(tensor) or _Kept(tensor) for tensor in inputs]
        versions = [tensor._version for tensor in inputs]
        self._just_saved = []
        try:
            result, own = compute(*inputs), self._just_saved
        finally:
            self._just_saved = None
        for tensor, version, source in zip(inputs, versions, sources, strict=True):
            if tensor._version != version and isinstance(source, _Kept):
                return result  # its input is gone
        recipe, key = _Recipe(again, sources), _key(result)
        self._known[key] = (weakref.ref(result), recipe)
        for saved in own:  # ReLU saves its own result
            if isinstance(saved.content, _Kept) and _key(saved.content.tensor) == key:
                saved.content = recipe
                recipe.readers += 1
        return result


class _Local(threading.local):
    tape: _Tape | None = None


_local = _Local()


def recomputed(compute: Compute, *inputs: Tensor, again: Compute | None = None) -> Tensor:
    """Return `compute(*inputs)`; within `maps_recomputed` autograd keeps how it was made instead of the map.

    Args:
        compute: What makes the map. It may change its inputs in place where they come from here as well; where they do
            not, the map is kept.
        *inputs: What it reads.
        again: What makes the same bits in the backward pass from the same inputs, without a side effect and without
            changing them; `compute` itself if None.
    """
    if torch.compiler.is_compiling() or _local.tape is None:
        return compute(*inputs)
    return _local.tape.run(compute, again or compute, inputs)


def convolved(conv: nn.Conv2d, x_NCHW: Tensor) -> Tensor:
    """Return `conv(x)`; a depthwise result, as large as its input and quickly made, is made again if wanted.

    A prepared network has others than nn.Conv2d, which are called and no more.
    """
    if not isinstance(conv, nn.Conv2d) or not recomputes_depthwise(x_NCHW):
        return conv(x_NCHW)  # type: ignore[no-any-return]
    if conv.groups == conv.in_channels > 1 and is_plain(conv):
        return recomputed(conv, x_NCHW, again=as_set_now(conv))
    return conv(x_NCHW)  # type: ignore[no-any-return]


def is_plain(module: nn.Module) -> bool:
    """Whether to call a module is to compute what its class says, and its class is PyTorch's or of this package.

    Hooks and the classes of others may replace the weight or the result, read them, or count the calls.
    """
    if torch.compiler.is_compiling():  # where nothing is made again, nor by other kernels
        return True
    hooks = (
        *(module._forward_pre_hooks, module._forward_hooks, module._backward_pre_hooks, module._backward_hooks),
        *(torch_module._global_forward_pre_hooks, torch_module._global_forward_hooks),
        *(torch_module._global_backward_pre_hooks, torch_module._global_backward_hooks),
    )
    known = type(module).__module__.startswith(("torch.nn.modules.", "atrous."))
    return known and not any(hooks) and "forward" not in vars(module)


def recomputes_depthwise(x_NCHW: Tensor) -> bool:
    """Whether `convolved` has them made again here: not under autocast, which is over in the backward pass."""
    return _local.tape is not None and _local.tape.depthwise and not torch.is_autocast_enabled(x_NCHW.device.type)


def recomputes_maps() -> bool:
    """Whether `recomputed` keeps recipes here."""
    return not torch.compiler.is_compiling() and _local.tape is not None


@contextmanager
def maps_recomputed(enabled: bool = True, *, depthwise: bool = False) -> Iterator[None]:
    """Have what runs here keep recipes for the maps of `recomputed`; or, not enabled, no longer.

    Args:
        enabled: Whether recipes are kept.
        depthwise: Whether those of `convolved` are, too.
    """
    before, tape = _local.tape, _Tape(depthwise=depthwise) if enabled else None
    hooks = torch.autograd.graph.saved_tensors_hooks(tape.save, _unpack) if tape else nullcontext()
    _local.tape = tape
    try:
        with hooks:
            yield
    finally:
        _local.tape = before
        if tape is not None:
            tape.forget()


def _unpack(saved: _Saved) -> Tensor:
    if torch.is_grad_enabled():  # what is kept or made again has no history, so that a derivative of it would be 0
        raise RuntimeError(
            "a second derivative (create_graph=True) of a network whose maps are made again: "
            "checkpoint_activations(model, 'none'), or trainer.activation_checkpointing=none, keeps them"
        )
    with torch.no_grad():
        return saved.content.read()


def _key(tensor: Tensor) -> _Key:
    return tensor.data_ptr(), tensor._version, tensor.shape, tensor.stride(), tensor.dtype
