"""What cannot be run is refused with the key, its value and what would be right."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import wandb
from omegaconf import DictConfig
from wandb.errors import UsageError

from atrous.errors import ConfigError
from atrous.studies.checks import check
from atrous.studies.configuration import resolve

pytestmark = [pytest.mark.slow, pytest.mark.no_cover]  # counted in other tests, in half the time

Compose = Callable[..., DictConfig]


@pytest.mark.every(4)
@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ("output_stride=12", ("output_stride=12", "4, 8, 16, 32")),
        ("output_stride=64", ("output_stride=64", "4, 8, 16, 32")),
        ("model=deeplabv3_cascade output_stride=512", ("512", "256")),
        ("model=deeplabv3_cascade model.blocks=8", ("model.blocks=8", "4 to 7")),
        ("recipe.crop_size=130", ("recipe.crop_size=130", "output_stride=16", "129 or 145")),
        ("recipe.crop_size=9 output_stride=8", ("recipe.crop_size=9", "at least 17")),
        ("recipe.crop_size=1000000001", ("recipe.crop_size=1000000001", "at most 65537")),
        ("recipe.batch_size=1", ("recipe.batch_size=1", "at least 2", "recipe.batch_norm.frozen=true")),
        ("recipe.batch_size=4 trainer.accumulate=4", ("recipe.batch_size=4", "one image at a time", "accumulate=4")),
        ("trainer.devices=3", ("recipe.batch_size=16", "trainer.devices=3", "15 or 18")),
        ("trainer.devices=32", ("trainer.devices=32", "32 would be right")),
        ("trainer.devices=2 trainer.batch_per_device=4", ("batch_per_device=4", "= 8", "recipe.batch_size=16")),
        ("trainer.devices=0", ("trainer.devices=0", "at least 1")),
        ("trainer.accelerator=tpu", ("trainer.accelerator='tpu'", "auto, cpu")),
        ("model.multi_grid=[1,2,4]", ("model.multi_grid=[1, 2, 4]", "2 units", "[1,2]")),
        ("backbone=tiny model.multi_grid=[1,0,4]", ("model.multi_grid=[1, 0, 4]", "at least 1")),
        ("backbone.units=[1,2,3]", ("backbone.units=[1, 2, 3]", "four")),
        ("backbone.unit=wide", ("backbone.unit='wide'", "basic, bottleneck")),
        ("backbone.stem=5x5", ("backbone.stem='5x5'", "beta, 7x7")),
        ("backbone.strides_in=middle", ("middle", "last_unit")),
        ("model.aspp_rates=[0]", ("aspp_rates", "at least 1")),
        ("backbone=xception65 output_stride=64", ("output_stride=64", "4, 8, 16, 32")),
        ("backbone=xception65 model.multi_grid=[1,2]", ("model.multi_grid=[1, 2]", "3 convolutions", "[1,2,4]")),
        ("backbone=mobilenetv2 model.multi_grid=[1,2,4]", ("model.multi_grid=[1, 2, 4]", "no multi-grid")),
        ("backbone=mobilenetv2 backbone.padding=valid", ("backbone.padding='valid'", "same, symmetric")),
        ("backbone=xception41 model=deeplabv3_cascade", ("model.blocks=7", "only a ResNet")),
        ("model.low_levels=[4,8]", ("model.low_levels=[4, 8]", "[8,4]")),
        ("backbone=xception65 backbone.middle_units=99999999", ("backbone.middle_units=99999999", "from 0 to 1000")),
        ("backbone=xception65 backbone.entry=[3]", ("backbone.entry=[3]", "[channels, stride]")),
        ("backbone=mobilenetv2 backbone.settings=[[1,2]]", ("backbone.settings=[[1, 2]]", "repeats, stride")),
        ("backbone=mobilenetv2 backbone.settings=[[1,8,60000,1]]", ("[[1, 8, 60000, 1]]", "at most 1000 repeats")),
        ("backbone.units=[1,1,1,100000000]", ("backbone.units=[1, 1, 1, 100000000]", "up to 1000")),
        ("model.decoder_convolutions=[3]", ("model.decoder_convolutions=[3]", "[kernel, channels]")),
        ("recipe.augmentation.transforms=[3]", ("transforms[0]=3", "no _target_")),
        ("protocols=[nope]", ("nope", "single_os8")),
        ("protocols=[]", ("protocols=[]", "protocols=[single]")),
        ("data=voc data.root=gone", ("data.root='gone'", "not a folder")),
        ("data=voc data.root='~no-such-person/data'", ("data.root='~no-such-person/data'", "not a folder")),
        ("model._target_=os.system", ("model._target_='os.system'", "atrous")),
        (
            "recipe.augmentation.transforms=[{_target_:os.system}]",
            ("transforms[0]._target_='os.system'", "albumentations"),
        ),
        ("data.train._target_=torch.load", ("data.train._target_='torch.load'", "atrous")),
    ],
)
def test_what_cannot_be_run_is_refused_with_what_would_be_right(
    composed: Compose, overrides: str, words: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError) as caught:
        check(resolve(composed(*overrides.split())))
    for word in words:
        assert word in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1, "one mistake, one line"


def test_a_data_root_may_be_in_a_home(composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = resolve(composed("data=voc", "data.root='~/data'"))
    with pytest.raises(ConfigError, match=r"data.root='~/data' is not a folder"):
        check(config)
    (tmp_path / "data").mkdir()
    check(config)


def test_all_problems_are_told_at_once(composed: Compose) -> None:
    with pytest.raises(ConfigError) as caught:
        check(resolve(composed("recipe.crop_size=130", "recipe.max_steps=0", "protocols=[nope]")))
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.every(3)
@pytest.mark.parametrize(
    "overrides",
    [
        "",
        "model=deeplabv3 output_stride=8",
        "model=deeplabv3_cascade output_stride=256 recipe.crop_size=257",
        "backbone=tiny model.multi_grid=[1,2,4]",
        "recipe.batch_size=1 recipe.batch_norm.frozen=true",
        "trainer.devices=2 trainer.batch_per_device=4 trainer.accumulate=2",
        "model.align_corners=false recipe.crop_size=128",
        "backbone=resnet50 backbone.stem=7x7 backbone.strides_in=first_unit recipe.preprocessing=imagenet",
        "protocols=[single,ms_flip_os8]",
        "backbone=xception71 model=deeplabv3plus_dpc output_stride=8",
        "backbone=mobilenetv2 model=deeplabv3 model.aspp_rates=[] output_stride=32",
        "backbone=resnet101 model=deeplabv3 model.blocks=5 model.multi_grid=[1,2,4]",
        "backbone=resnet50 recipe.pretrained=imagenet",
        "backbone=resnet50_torchvision recipe.pretrained=imagenet recipe.preprocessing=imagenet",
        "backbone=xception65 recipe.pretrained=xception_65_imagenet",
        "recipe.augmentation.transforms=[{_target_:albumentations.ColorJitter,p:0.5}]",
        "backbone=timm backbone.name=resnet50d",
    ],
)
def test_what_can_be_run_is_let_through(composed: Compose, overrides: str) -> None:
    check(resolve(composed(*overrides.split())))


def test_a_mode_that_wandb_has_not_is_refused_before_a_run_begins(composed: Compose) -> None:
    with pytest.raises(ConfigError, match=r"logger\.wandb\.mode='of-line': one of auto, online, offline, disabled"):
        check(resolve(composed("logger=wandb", "logger.wandb.mode=of-line")))
    check(resolve(composed("logger=wandb", "logger.wandb.mode=offline")))


@pytest.mark.parametrize(
    ("project", "is_one"), [("lab", True), ("a b-1.x", True), ("team/lab", False), ("p" * 129, False)]
)
def test_a_project_that_wandb_would_not_take_is_refused_before_a_run_begins(
    project: str, is_one: bool, composed: Compose
) -> None:
    config = resolve(composed("logger=wandb"))
    config["logger"]["wandb"]["project"] = project
    with (
        nullcontext()
        if is_one
        else pytest.raises(ConfigError, match=r"logger\.wandb\.project=.* W&B takes at most 128")
    ):
        check(config)
    if not is_one:
        with pytest.raises(UsageError):
            wandb.Settings(project=project)


def test_what_an_added_backbone_can_have_is_left_to_its_constructor(composed: Compose) -> None:
    config = dict(resolve(composed("model=deeplabv3", "model.blocks=5", "model.multi_grid=[2]", "backbone=tiny")))
    with pytest.raises(ConfigError, match=r"multi_grid=\[2\] needs"):
        check(config)
    config["backbone"] = {"_target_": "atrous.networks.Added", "_partial_": True, "units": [2, 3]}
    check(config)
