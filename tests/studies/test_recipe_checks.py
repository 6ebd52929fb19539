"""What a recipe may say: each mistake is told with its value and what would be right."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from atrous.run_store import RunFolder
from atrous.studies.configuration import resolve
from atrous.studies.recipe_checks import recipe_problems, recipe_warnings

Config = dict[str, Any]
Compose = Callable[..., DictConfig]
TORCHVISION = {"backbone.strides_in": "first_unit"}


@pytest.mark.counted
@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"recipe.precision": "fp8"}, ("recipe.precision='fp8'", "bf16-mixed")),
        ({"recipe.preprocessing": "none"}, ("recipe.preprocessing='none'", "imagenet")),
        ({"recipe.augmentation.scale_min": 3.0}, ("scale_min=3.0", "scale_max=1.5")),
        ({"recipe.augmentation.scale_min": 0.0}, ("0 < scale_min=0.0",)),
        ({"recipe.pretrained": "gone.pth"}, ("recipe.pretrained='gone.pth'", "neither a file", "unknown")),
        ({"recipe.pretrained": "xception65_coco_voc_trainaugg"}, ("did you mean xception65_coco_voc_trainaug",)),
        (
            {**TORCHVISION, "recipe.pretrained": "imagenet"},
            ("recipe.preprocessing='inception'", "recipe.preprocessing=imagenet"),
        ),
        (
            {"recipe.pretrained": "xception_65_imagenet", "recipe.preprocessing": "imagenet"},
            ("trained with 'inception'",),
        ),
    ],
)
def test_what_cannot_be_run_is_told_with_what_would_be_right(
    changed: Callable[[Config], Config], values: Config, words: tuple[str, ...]
) -> None:
    (problem,) = recipe_problems(changed(values))
    assert all(word in problem for word in words), problem


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"recipe.pretrained": "imagenet"},
        {**TORCHVISION, "recipe.pretrained": "imagenet", "recipe.preprocessing": "imagenet"},
        {"recipe.pretrained": "xception_65_imagenet"},
    ],
)
def test_what_can_be_run_is_let_through(changed: Callable[[Config], Config], values: Config) -> None:
    assert list(recipe_problems(changed(values))) == []


def test_a_file_of_weights_is_let_through_with_any_preprocessing(
    changed: Callable[[Config], Config], tmp_path: Path
) -> None:
    (tmp_path / "weights.pth").touch()
    values = {"recipe.pretrained": str(tmp_path / "weights.pth"), "recipe.preprocessing": "imagenet"}
    assert list(recipe_problems(changed(values))) == []


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A folder with a checkpoint, and nothing of its run yet."""
    folder = RunFolder(tmp_path)
    folder.last_checkpoint.parent.mkdir()
    folder.last_checkpoint.touch()
    return folder


def test_a_runs_checkpoint_asks_for_the_preprocessing_of_its_run(
    changed: Callable[[Config], Config], run: RunFolder
) -> None:
    values = {"recipe.pretrained": str(run.last_checkpoint), "recipe.preprocessing": "imagenet"}
    assert list(recipe_problems(changed(values))) == []  # it was moved away from its run
    run.create(config_yaml="recipe: {preprocessing: inception}", facts={})
    (problem,) = recipe_problems(changed(values))
    assert "were trained with 'inception': recipe.preprocessing=inception" in problem
    assert list(recipe_problems(changed({**values, "recipe.preprocessing": "inception"}))) == []
    for damaged in ("recipe: [1, 2]", "{"):
        run.config_file.write_text(damaged)
        assert list(recipe_problems(changed(values))) == []


def test_a_runs_weights_in_a_network_of_other_atrous_rates_are_warned_of(
    changed: Callable[[Config], Config], run: RunFolder
) -> None:
    values = {"recipe.pretrained": str(run.last_checkpoint), "model.aspp_rates": [6, 12, 18]}
    run.create(config_yaml="model: {multi_grid: [1, 2, 4], aspp_rates: [6, 12, 18]}", facts={})
    (warning,) = recipe_warnings(changed(values))
    assert warning.startswith("model.multi_grid=None, but the weights of recipe.pretrained=")
    assert warning.endswith("were trained with [1, 2, 4]; 'model.multi_grid=[1,2,4]' takes that")
    assert list(recipe_warnings(changed({**values, "model.multi_grid": [1, 2, 4]}))) == []
    for told, count in (("[1, 1, 1]", 0), ("[[1]]", 1), ("3", 1), ("null", 0)):  # a multi-grid of ones is none
        run.config_file.write_text(f"model: {{multi_grid: {told}}}")
        assert len(list(recipe_warnings(changed(values)))) == count
    run.config_file.write_text("model: {_target_: anything}")
    assert list(recipe_warnings(changed(values))) == []


def test_a_folder_of_a_run_is_answered_with_its_checkpoint(changed: Callable[[Config], Config], tmp_path: Path) -> None:
    (problem,) = recipe_problems(changed({"recipe.pretrained": str(tmp_path)}))
    assert problem.endswith(f"{tmp_path}/checkpoints/last.ckpt")


LONG_MEMORY = {"recipe.batch_norm.backbone_decay": 0.9997, "recipe.batch_norm.head_decay": 0.9997}


def test_batch_norm_that_will_not_be_warmed_up_is_told_with_what_would_be_right(
    changed: Callable[[Config], Config],
) -> None:
    told = list(recipe_warnings(changed({**LONG_MEMORY, "recipe.max_steps": 300})))
    assert [text.split(" with ")[0] for text in told] == [f"{key}={value}" for key, value in LONG_MEMORY.items()]
    # 0.9997 ** 300 = 0.914; a thousandth is left of 0.977 after 300 steps, and of 0.9997 after 23023
    assert all("recipe.max_steps=300: 91% of the running statistics" in text for text in told)
    assert "recipe.batch_norm.backbone_decay=0.977 or less, or recipe.max_steps=23023 or more" in told[0]


@pytest.mark.counted
@pytest.mark.parametrize(
    ("values", "count"),
    [
        ({"recipe.max_steps": 30000}, 0),
        ({"recipe.max_steps": 300, "recipe.batch_norm.frozen": True}, 0),
        ({"recipe.max_steps": 300, "recipe.pretrained": "xception65_coco_voc_trainaug"}, 0),
        ({"recipe.max_steps": 300, "recipe.pretrained": "imagenet"}, 1),  # the head begins anew
        ({"recipe.max_steps": 300, "parent": ["recipe.max_steps=30000"]}, 0),
        ({"recipe.max_steps": 50}, 0),  # a trial
        ({"recipe.max_steps": 4000, "trainer.accumulate": 2}, 0),
    ],
)
def test_only_statistics_that_are_learnt_from_nothing_and_too_slowly_are_told(
    changed: Callable[[Config], Config], values: Config, count: int
) -> None:
    assert len(list(recipe_warnings(changed({**LONG_MEMORY, **values})))) == count


@pytest.mark.slow
@pytest.mark.every(3)
@pytest.mark.parametrize(
    ("overrides", "count"),
    [
        ("data=shapes", 0),
        ("data=camvid data.root=.", 0),
        ("data=voc data.root=.", 0),
        ("data=cityscapes data.root=.", 0),
        ("data=voc data.root=. recipe=voc_tf_release", 0),
        ("data=voc data.root=. recipe.max_steps=1000", 2),
    ],
)
def test_no_recipe_of_ours_leaves_statistics_cold(composed: Compose, overrides: str, count: int) -> None:
    assert len(list(recipe_warnings(resolve(composed(*overrides.split()))))) == count
