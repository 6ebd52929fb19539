"""The training step's ways, its goals, and the measurement itself on images of a few pixels."""

from pathlib import Path

import pytest
import torch
from benchmarks.figures import Figures
from benchmarks.install_peers import requirements
from benchmarks.networks import PAPER, SMP, TORCHVISION_OS8, Network, networks_of
from benchmarks.scaling import points
from benchmarks.step_goals import goals
from benchmarks.step_measurement import measure
from benchmarks.steps import ATROUS, CHECKPOINTED, FLOAT32, PLAIN, TUNED, Setting, batch_of, build, plain_step
from benchmarks.training_step import available, ways_of
from torch import Tensor, nn

from atrous.networks import atrous_convolution, depthwise_convolution, strided_depthwise
from atrous.networks.complexity import multiply_adds
from benchmarks import peers

TINY = Setting(backbone="resnet18", size=33, batch=2, steps=1, warm_up=0)


def _turn(seconds: float, mib: int, precision: str) -> list[Figures]:
    return [{"seconds": [seconds], "peak_mib": mib, "precision": precision}]


def _networks() -> dict[str, Network]:
    def never(_: str) -> nn.Module:
        raise AssertionError

    return {
        PAPER: Network("paper's", "", never),
        SMP: Network("smp's", "", never, twin="twin"),
        "twin": Network("twin", "", never),
    }


def test_goals_compare_with_the_fastest_peer_and_with_the_same_precision() -> None:
    measured = {
        f"{PAPER}: {ATROUS}": _turn(1.0, 800, "bf16-mixed"),
        f"{PAPER}: {FLOAT32}": _turn(2.0, 900, "32-true"),
        f"{SMP}: {PLAIN}": _turn(3.0, 1000, "32-true"),
        f"{SMP}: {TUNED}": _turn(1.5, 1600, "bf16-mixed"),
        f"twin: {ATROUS}": _turn(0.5, 400, "bf16-mixed"),
        f"twin: {FLOAT32}": _turn(1.2, 500, "32-true"),
        f"twin: {CHECKPOINTED}": _turn(0.6, 320, "bf16-mixed"),
    }
    peaks = {"32-true": 1e9, "bf16-mixed": 4e9}
    found = goals(measured, _networks(), {PAPER: 2e9, SMP: 1e9, "twin": 1e9}, peaks)
    assert [goal.value.median for goal in found] == [
        *(3.0, 1.5, 1.5, 0.5, 0.9),  # the paper's network: shipped and exact against smp's, then memory
        *(6.0, 3.0, 2.5, 0.25, 0.5),  # its twin
        *(0.2, 1.2),  # computed twice: memory of the tuned peer's, seconds of its own
        50.0,  # percent: 2e9 operations in 1 s of a peak of 4e9
    ]
    assert not any(goal.moot for goal in found)


def test_what_asks_for_bf16_is_moot_without_it() -> None:
    measured = {
        f"{PAPER}: {ATROUS}": _turn(1.0, 800, "32-true"),
        f"{SMP}: {PLAIN}": _turn(3.0, 1000, "32-true"),
        f"{SMP}: {TUNED}": _turn(1.5, 900, "32-true"),
        f"twin: {ATROUS}": _turn(0.5, 400, "32-true"),
    }
    found = goals(measured, _networks(), {PAPER: 1e9, SMP: 1e9, "twin": 1e9}, {"32-true": 1e9})
    assert [bool(goal.moot) for goal in found] == [True, False, False, False, True, False, False, False, False]
    assert found[3].value.median == pytest.approx(800 / 900)  # the tuned peer is the lightest at float32


def test_a_peer_that_cannot_be_built_takes_its_twin_along() -> None:
    assert list(available(_networks(), [PAPER, "twin"])) == [PAPER]
    assert {key for key, _ in ways_of(available(_networks(), [PAPER, SMP, "twin"]), device="cpu")} == set(_networks())


@pytest.mark.parametrize("way", [(PAPER, ATROUS), (PAPER, PLAIN), (PAPER, TUNED), ("atrous_as_smp", CHECKPOINTED)])
def test_a_step_is_timed_in_every_manner(way: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # PyTorch's own default
    figures = measure(TINY.request(*way))
    assert torch.backends.cudnn.allow_tf32 is (way[1] in (PLAIN, TUNED)), "a job of atrous-train computes exactly"
    assert len(figures["seconds"]) == 1
    assert figures["seconds"][0] > 0
    assert figures["peak_mib"] >= figures["step_mib"]


@pytest.mark.parametrize("tuned", [False, True])
def test_plain_pytorch_runs_no_kernel_of_atrous(tuned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = build(PAPER, TINY).train(), batch_of(TINY, TINY.size, images=TINY.batch)
    step = plain_step(model, batch, TINY, tuned=tuned)

    def asked(conv: nn.Conv2d, _: Tensor) -> bool:
        raise AssertionError(conv)

    for kernels in (atrous_convolution, depthwise_convolution, strided_depthwise):
        monkeypatch.setattr(kernels, "pays", asked)
    step()


@pytest.mark.parametrize("backbone", ["resnet50", "xception65"])
def test_a_twin_has_the_parameters_and_operations_of_the_peer(backbone: str) -> None:
    networks = networks_of(backbone)
    for key, network in networks.items():
        if not network.twin:
            continue
        try:
            with torch.device("meta"):
                peer, twin = network.build(backbone), networks[network.twin].build(backbone)
        except peers.PeerMissingError as error:
            pytest.skip(str(error))
        theirs, ours = (multiply_adds(each, size=(512, 512)) for each in (peer, twin))
        tolerance = 0 if key.startswith("torchvision") else 0.06  # smp puts one more convolution behind ASPP
        assert ours.true == pytest.approx(theirs.true, rel=tolerance)
        assert ours.parameters == pytest.approx(theirs.parameters, rel=tolerance)


def test_peers_see_sides_that_they_take() -> None:
    networks = networks_of("resnet50")
    assert (networks[SMP].side(513), networks[TORCHVISION_OS8].side(513)) == (512, 513)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(peers.FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setitem(__import__("sys").modules, "segmentation_models_pytorch", None)
    with pytest.raises(peers.PeerMissingError, match="segmentation_models_pytorch cannot be imported"):
        peers.smp_deeplabv3plus("resnet50")


def test_the_extra_bench_is_told_from_others() -> None:
    found = requirements(["torch>=2.4", 'timm>=1.0; extra == "bench"', "timm>=1; extra == 'timm'"])
    assert found == ["timm>=1.0"]


def test_scaling_varies_one_thing_at_a_time() -> None:
    base = Setting(backbone="resnet18", size=65, batch=2)
    found = points(base, batches=[2, 4], sizes=[65, 97], ranks=[1, 2, 3])
    for point in found:
        differing = [key for key, value in vars(point.setting).items() if value != getattr(base, key)]
        assert len(differing) + (point.ranks > 1) + (point.manner != ATROUS) <= 1
    assert [point.ranks for point in found if point.varied == "ranks"] == [1, 2]  # 3 ranks cannot share 2 images
    costs = [point.x for point in found if point.varied == "output stride"]
    assert costs == sorted(costs)
