"""Put foreign tensors into a network by name: all of them or, where a single one does not fit, none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from atrous.errors import CheckpointError, MisfitError


class LoadReport(NamedTuple):
    """What a loader did.

    Attributes:
        loaded: Names, as the source has them, of everything that was copied.
        left: The network's own names of the parameters that kept the values they had (a head, an added block).
    """

    loaded: tuple[str, ...]
    left: tuple[str, ...]


def dense_tensors(entries: Mapping[Any, Any], *, source: str) -> dict[str, Tensor]:
    """Return the entries of a file as named tensors.

    Args:
        entries: What the file holds, whatever it is.
        source: What to call it in errors.

    Raises:
        CheckpointError: An entry without a name, or one that is no dense tensor, such as a quantised or a sparse one.
    """
    for name, value in entries.items():
        if not isinstance(name, str):
            found = f"its entry {name!r} has no name"
        elif not isinstance(value, Tensor):
            found = f"{name} is of type {type(value).__name__}, expected a tensor"
        elif value.is_quantized or value.layout != torch.strided:
            kind = "quantised" if value.is_quantized else _word(value.layout)
            found = f"{name} is {kind}, expected a dense tensor"
        else:
            continue
        raise CheckpointError(f"{source} holds no state dict of tensors: {found}")
    return dict(entries)


def load_by_name(
    model: nn.Module,
    *,
    targets: Mapping[str, Tensor],
    values: Mapping[str, Tensor],
    source: str,
    optional: Iterable[str] = (),
    resizable: Iterable[str] = (),
) -> LoadReport:
    """Copy every value into its target; check all names, shapes and kinds before the first is written.

    Args:
        model: The network that owns the targets, for the report.
        targets: The network's tensors by the source's names.
        values: The source's tensors by the same names, in PyTorch's layout.
        source: What to call the source in errors.
        optional: Targets that the source may lack.
        resizable: Targets that keep what they hold where the source's are of another shape, all of them if one is: a
            classifier of other classes.

    Raises:
        MisfitError: Missing, surplus or mis-shaped entries, or integers or complex numbers in place of floats; the
            network is then as it was.
    """
    missing = sorted(targets.keys() - values.keys() - set(optional))
    surplus = sorted(values.keys() - targets.keys())
    shared = [name for name in targets if name in values]
    differing = [name for name in shared if values[name].shape != targets[name].shape]
    kept = set(resizable) if not set(resizable).isdisjoint(differing) else set()
    misshaped = [
        f"{name} is {tuple(values[name].shape)}, wanted {tuple(targets[name].shape)}"
        for name in differing
        if name not in kept
    ]
    unlike = [
        f"{name} is {_word(values[name].dtype)}, wanted {_word(targets[name].dtype)}"
        for name in shared
        if name not in kept and targets[name].is_floating_point() and not values[name].is_floating_point()
    ]
    empty = [name for name in shared if values[name].is_meta and not targets[name].is_meta]
    problems = [
        ("missing", missing),
        ("surplus", surplus),
        ("of another shape", misshaped),
        ("of another kind", unlike),
        ("without values, on PyTorch's device meta", empty),
    ]
    complaints = [f"{len(names)} {kind}: {_shorten(names)}" for kind, names in problems if names]
    if complaints:
        raise MisfitError(f"{source} does not fit this network; {'; '.join(complaints)}")
    shared = [name for name in shared if name not in kept]
    with torch.no_grad():
        for name in shared:
            targets[name].copy_(values[name])
    written = {id(targets[name]) for name in shared}
    left = tuple(name for name, parameter in model.named_parameters() if id(parameter) not in written)
    return LoadReport(loaded=tuple(shared), left=left)


def _word(value: torch.dtype | torch.layout) -> str:
    return str(value).removeprefix("torch.")


def _shorten(names: list[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
