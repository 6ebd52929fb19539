"""Networks as files for other programs, checked against PyTorch before they get their names.

A .pt2 and an .onnx file take normalised images "image" [N, 3, H, W] of any batch and size and give "logits"
[N, classes, H, W], both float32, with batch norm folded in. A .safetensors file is for `atrous.load`.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atrous.errors import CheckpointError, ConfigError
from atrous.evaluation.preparation import folded
from atrous.files import write_bytes
from atrous.networks.segmenter import Segmenter
from atrous.prediction.description import Description
from atrous.prediction.parity import check_parity
from atrous.prediction.safetensors_file import read_safetensors, write_safetensors

OPSET = 18
_LARGEST_SIDE = 16384
_KEY = "atrous"
_TALKATIVE = ("torch.onnx", "onnxscript", "onnx_ir")

Run = Callable[[Tensor], Tensor]


def export_network(
    network: Segmenter, description: Description, path: Path, *, kind: str, samples: list[Tensor]
) -> float:
    """Write one file, if what it computes is what the network computes.

    Args:
        network: in evaluation mode.
        description: travels in the file.
        path: the file.
        kind: pt2, onnx or safetensors.
        samples: normalised images [N, 3, H, W] to check it with, of several sizes.

    Returns:
        The largest difference of a logit, as a share of the largest logit.

    Raises:
        ConfigError: a package is missing.
        CheckpointError: a weight is no finite number, or the file would compute something else; nothing is written
            then.
    """
    _refuse_what_is_not_finite(network, path)
    if kind == "safetensors":
        part = path.with_name(f".{path.name}.part.safetensors")
        write_safetensors(part, network, description)
        try:
            difference = check_parity(network, read_safetensors(part)[0].eval(), samples, what=path.name)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return difference
    if kind == "onnx":
        _require_onnx()
    program = _program(folded(network))
    content = _pt2_bytes(program, description) if kind == "pt2" else _onnx_bytes(program, description)
    difference = check_parity(network, (_pt2_run if kind == "pt2" else _onnx_run)(content), samples, what=path.name)
    write_bytes(path, content)
    return difference


def _refuse_what_is_not_finite(network: Segmenter, path: Path) -> None:
    broken = [name for name, values in network.state_dict().items() if not values.isfinite().all()]
    if broken:
        more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
        raise CheckpointError(
            f"{path.name}: the network's weights hold NaN or infinity, in {', '.join(broken[:3])}{more}: its training "
            "has diverged, or its file is of one that has; nothing was written"
        )


def smallest_side(network: Segmenter) -> int:
    """Return the smallest side that an exported network takes: its last map must have two cells."""
    return network.output_stride + 1


def _program(network: Segmenter) -> Any:
    side = torch.export.Dim.DYNAMIC(min=smallest_side(network), max=_LARGEST_SIDE)
    sizes: Mapping[int, Any] = {0: torch.export.Dim.DYNAMIC, 2: side, 3: side}
    # Two images, and sides that differ and are no multiple of a stride: nothing of them may end up in the graph.
    example = torch.zeros(2, 3, 4 * network.output_stride + 1, 6 * network.output_stride + 1)
    with _quiet():
        return torch.export.export(network, (example,), dynamic_shapes=(sizes,), strict=False)


def _pt2_bytes(program: Any, description: Description) -> bytes:
    stream = io.BytesIO()
    with _quiet():
        torch.export.save(program, stream, extra_files={f"{_KEY}.json": description.to_json()})
    return stream.getvalue()


def _pt2_run(content: bytes) -> Run:
    run: Run = torch.export.load(io.BytesIO(content)).module()
    return run


def _onnx_bytes(program: Any, description: Description) -> bytes:
    with _quiet():
        exported: Any = torch.onnx.export(
            program, dynamo=True, opset_version=OPSET, input_names=["image"], output_names=["logits"], verbose=False
        )
    model = exported.model_proto
    for entry in (model.graph.input[0], model.graph.output[0]):
        for place, name in ((0, "batch"), (2, "height"), (3, "width")):
            entry.type.tensor_type.shape.dim[place].dim_param = name
    del model.graph.value_info[:]  # sizes in the names that were just changed
    model.metadata_props.add(key=_KEY, value=description.to_json())
    content: bytes = model.SerializeToString()
    return content


def _onnx_run(content: bytes) -> Run:
    import onnxruntime  # type: ignore[import-untyped,unused-ignore]

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["logits"], {"image": images.numpy()})[0])


def _require_onnx() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("onnx", "onnxruntime", "onnxscript") if find_spec(name) is None]
    if missing:
        raise ConfigError(f"format=onnx needs the package {missing[0]}: pip install 'atrous[export]'")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporters say about every step, and about packages that are not used here."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning)
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
