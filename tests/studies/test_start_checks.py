"""Initial weights that do not fit are refused before a run begins; nothing is fetched for that."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from atrous.building import build_network
from atrous.errors import ConfigError
from atrous.studies import jobs
from atrous.studies.configuration import Config, resolve
from atrous.studies.start_checks import check_start
from atrous.weights import released

SMALL = ("backbone=tiny", "backbone.units=[1,1,1,1]", "backbone.width=4", "model=deeplabv3", "model.aspp_channels=8")
XCEPTION = ("backbone=xception65", "model.aspp_separable=true", "recipe.pretrained=xception65_coco_voc_trainaug")
TORCHVISION = (
    "backbone=resnet50_torchvision",
    "model.head_convolutions=[[3,256]]",
    "recipe.preprocessing=imagenet",
    "recipe.pretrained=torchvision_deeplabv3_resnet50_coco",
)
MOBILENET = ("backbone=mobilenetv2", "recipe.pretrained=mobilenetv2_coco_voc_trainaug")
Resolved = Callable[..., Config]


@pytest.fixture
def resolved(composed: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch) -> Resolved:
    """The config of a run; nothing can be fetched."""
    monkeypatch.setattr(released, "fetch", lambda *_, **__: pytest.fail("something was fetched"))
    return lambda *overrides: resolve(composed(*overrides))


@pytest.fixture
def trained(resolved: Resolved, tmp_path: Path) -> Path:
    """A checkpoint of a small network."""
    path = tmp_path / "last.ckpt"
    model = build_network(resolved(*SMALL), num_classes=3)
    torch.save({"state_dict": {f"model.{name}": value for name, value in model.state_dict().items()}}, path)
    return path


def test_a_checkpoint_of_another_architecture_is_refused_by_the_names_that_do_not_fit(
    resolved: Resolved, trained: Path
) -> None:
    fits = resolved(*SMALL, f"recipe.pretrained={trained}")
    check_start(fits, parent=None)
    other = resolved(*SMALL, "backbone.width=8", f"recipe.pretrained={trained}")
    with pytest.raises(ConfigError, match=r"recipe\.pretrained='.*last\.ckpt': .* of another shape: .* the same model"):
        check_start(other, parent=None)
    trained.write_bytes(trained.read_bytes()[:5000])
    damaged = resolved(*SMALL, "output_stride=8", f"recipe.pretrained={trained}")
    with pytest.raises(ConfigError, match=r"recipe\.pretrained='.*last\.ckpt': .*not whole"):
        check_start(damaged, parent=None)


@pytest.mark.every(2)
@pytest.mark.parametrize(
    ("overrides", "refused"),
    [
        (("backbone=resnet50", "recipe.pretrained=imagenet"), None),
        (("backbone=tiny", "recipe.pretrained=imagenet"), "no ImageNet weights were released for this ResNet"),
        (("backbone=xception65", "recipe.pretrained=xception_65_imagenet"), None),
        (
            ("backbone=resnet50", "recipe.pretrained=xception_65_imagenet"),
            "'xception_65_imagenet': .* does not fit this network; .* missing: resnet_v1_50/.* surplus: xception_65/",
        ),
        (("model=deeplabv3plus", "model.decoder_separable=true", *XCEPTION), None),
        (("model=deeplabv3", *XCEPTION), "does not fit this network; .* surplus: .*decoder"),
        # What the loaders do not look at, the check does not either.
        (("model=deeplabv3", "model.blocks=5", *TORCHVISION), None),
        (("model=deeplabv3", "model.aspp_rates=[]", "model.head_convolutions=[[3,256]]", *MOBILENET), None),
        (
            (
                "backbone=xception65",
                "backbone.entry=[[128,2],[256,2],[728,1]]",
                "recipe.pretrained=xception_65_imagenet",
            ),
            None,
        ),
        (
            ("model=deeplabv3", *TORCHVISION, "backbone.strides_in=last_unit"),
            "torchvision's weights need a ResNet with stem=7x7 and strides_in=first_unit",
        ),
    ],
)
def test_published_weights_are_compared_by_their_layout(
    resolved: Resolved, overrides: tuple[str, ...], refused: str | None
) -> None:
    config = resolved(*overrides)
    if refused is None:
        check_start(config, parent=None)
    else:
        with pytest.raises(ConfigError, match=refused):
            check_start(config, parent=None)


def test_a_parent_must_have_the_same_network_and_may_have_other_classes_rates_and_strides(resolved: Resolved) -> None:
    parent = resolved(*SMALL, "output_stride=16")
    check_start(resolved(*SMALL, "output_stride=8", "model.aspp_rates=[1,2,3]"), parent=parent)
    with pytest.raises(ConfigError, match=r"parent: the network of parent=\[\.\.\.\] does not fit .* same model and"):
        check_start(resolved(*SMALL, "model.aspp_channels=16"), parent=parent)


def test_a_run_without_initial_weights_builds_no_network(resolved: Resolved, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atrous.studies.start_checks.build_network", lambda *_, **__: pytest.fail("it was built"))
    check_start(resolved(*SMALL), parent=None)


def test_networks_of_timm_are_left_to_the_run_but_for_weights_that_cannot_be_theirs(
    resolved: Resolved, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atrous.studies.start_checks.build_network", lambda *_, **__: pytest.fail("it was built"))
    timm = {"backbone": {"_target_": "atrous.networks.TimmBackbone"}}
    check_start({**resolved("recipe.pretrained=xception_65_imagenet"), **timm}, parent=None)
    with pytest.raises(ConfigError, match=r"recipe\.pretrained='imagenet' .*backbone\.pretrained=true"):
        check_start({**resolved("recipe.pretrained=imagenet"), **timm}, parent=None)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("recipe.pretrained=imagenet",), "no ImageNet weights"),
        (("parent=['model=deeplabv3']",), "parent: the network"),
        (
            ("recipe.augmentation.transforms=[{_target_: albumentations.ColorJitter, brightnes: 1}]",),
            r"recipe\.augmentation\.transforms\[0\]: .*brightnes",
        ),
    ],
)
def test_a_run_is_refused_before_its_folder_is_made(
    composed: Callable[..., DictConfig], tmp_path: Path, overrides: tuple[str, ...], said: str
) -> None:
    words = ["data=shapes", f"store={tmp_path / 'store'}", *overrides]
    with pytest.raises(ConfigError, match=said):
        jobs.prepare(composed(*words), words)
    assert not (tmp_path / "store").exists()
