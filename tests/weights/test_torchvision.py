"""torchvision's state dicts: what is ignored, what is refused. Values are checked in tests/oracles."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from atrous.errors import CheckpointError
from atrous.networks.deeplab import DeepLabV3, DeepLabV3Cascade
from atrous.networks.resnet import ResNet, resnet18
from atrous.weights.torch_files import read_torch
from atrous.weights.torchvision import from_torchvision

TORCHVISION18 = partial(resnet18, stem="7x7", strides_in="first_unit", width=4)


def state_dict() -> dict[str, Tensor]:
    """Return a narrow ResNet-18 by torchvision's names, its classifier included."""

    def conv(name: str, norm: str, cin: int, cout: int, kernel: int) -> dict[str, Tensor]:
        vectors = {f"{norm}.{leaf}": torch.rand(cout) for leaf in ("weight", "bias", "running_mean", "running_var")}
        count = {f"{norm}.num_batches_tracked": torch.tensor(5)}
        return {f"{name}.weight": torch.randn(cout, cin, kernel, kernel), **vectors, **count}

    state = conv("conv1", "bn1", 3, 4, 7)
    cin = 4
    for layer, width in enumerate((4, 8, 16, 32), start=1):
        for unit in range(2):
            prefix = f"layer{layer}.{unit}"
            state |= conv(f"{prefix}.conv1", f"{prefix}.bn1", cin, width, 3)
            state |= conv(f"{prefix}.conv2", f"{prefix}.bn2", width, width, 3)
            if cin != width:
                state |= conv(f"{prefix}.downsample.0", f"{prefix}.downsample.1", cin, width, 1)
            cin = width
    return {**state, "fc.weight": torch.randn(1000, 32), "fc.bias": torch.randn(1000)}


def test_a_file_is_read_and_the_classifier_ignored(tmp_path: Path) -> None:
    state = state_dict()
    torch.save(state, tmp_path / "resnet18.pth")
    resnet = TORCHVISION18()
    report = from_torchvision(resnet, tmp_path / "resnet18.pth")
    assert report.left == ()
    assert set(report.loaded) == set(state) - {"fc.weight", "fc.bias"}
    assert torch.equal(resnet.get_parameter("blocks.3.1.conv2.conv.weight"), state["layer4.1.conv2.weight"])
    assert torch.equal(
        resnet.get_buffer("blocks.1.0.shortcut.norm.running_var"), state["layer2.0.downsample.1.running_var"]
    )


def test_heads_and_added_blocks_are_reported_as_left() -> None:
    network = DeepLabV3(backbone=TORCHVISION18, multi_grid=None)
    left = from_torchvision(network, state_dict()).left
    assert left == tuple(n for n, _ in network.named_parameters() if not n.startswith("backbone."))
    cascade = DeepLabV3Cascade(backbone=TORCHVISION18, multi_grid=None, blocks=5)
    left = from_torchvision(cascade, state_dict()).left
    assert {name.rsplit(".", 4)[0] for name in left if name.startswith("backbone.")} == {"backbone.blocks.4"}


def test_files_of_before_batches_were_counted_load() -> None:
    state = {name: value for name, value in state_dict().items() if not name.endswith("num_batches_tracked")}
    assert from_torchvision(TORCHVISION18(), state).left == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {**state, "layer9.weight": torch.ones(1)}, "1 surplus: layer9.weight"),
        (lambda state: {n: v for n, v in state.items() if n != "bn1.bias"}, "1 missing: bn1.bias"),
        (lambda state: {**state, "bn1.bias": torch.ones(3)}, r"bn1.bias is \(3,\), wanted \(4,\)"),
    ],
)
def test_what_does_not_fit_is_listed_by_name(change: partial[Mapping[str, Tensor]], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        from_torchvision(TORCHVISION18(), change(state_dict()))


@pytest.mark.parametrize("resnet", [partial(resnet18, width=4), partial(resnet18, width=4, stem="7x7")])
def test_another_layout_is_refused_with_the_right_one(resnet: partial[ResNet]) -> None:
    with pytest.raises(CheckpointError, match="stem=7x7 and strides_in=first_unit"):
        from_torchvision(resnet(), state_dict())


class Trap:
    """Unpickling it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    torch.save({"conv1.weight": Trap(tmp_path / "harm")}, tmp_path / "trap.pth")
    with pytest.raises(CheckpointError, match=r"trap.pth: not a file of tensors"):
        from_torchvision(TORCHVISION18(), tmp_path / "trap.pth")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", b"PK\x03\x04 cut off"])
def test_a_broken_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"broken.pth: not a file of tensors"):
        from_torchvision(TORCHVISION18(), tmp_path / "broken.pth")


def test_a_truncated_file_is_refused_by_name(tmp_path: Path) -> None:
    torch.save(state_dict(), tmp_path / "cut.pth")
    whole = (tmp_path / "cut.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"cut.pth: not a file of tensors"):
        from_torchvision(TORCHVISION18(), tmp_path / "cut.pth")


def test_a_file_of_something_else_or_none_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other.pth holds no state dict"):
        from_torchvision(TORCHVISION18(), tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"absent.pth is not there"):
        from_torchvision(TORCHVISION18(), tmp_path / "absent.pth")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<html>404", r"Unsupported operand 60\)$"),
        (
            nn.Conv2d(1, 1, 1),
            r"Unsupported global: GLOBAL torch\.nn\.modules\.conv\.Conv2d was not an allowed .*default\)$",
        ),
    ],
)
def test_a_file_that_would_run_code_is_refused_without_advice_to_run_it(
    tmp_path: Path, content: object, reason: str
) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(CheckpointError, match=reason) as refused:
        read_torch(path)
    assert "weights_only" not in str(refused.value)
