"""From Hydra's config to plain values: nothing of the sweep, nothing missing, nothing that no schema knows."""

import copy
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from atrous.errors import ConfigError, StoreError
from atrous.studies.configuration import resolve, written

Compose = Callable[..., DictConfig]


def _is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(entry) for key, entry in value.items())
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float | bool)


def test_a_resolved_config_is_plain_and_knows_no_sweep(composed: Compose) -> None:
    plain = resolve(composed("+experiment=deeplabv3/table1", "scale=shapes"))
    assert _is_plain(plain)
    assert not {"experiment", "scale", "rows", "fail_fast", "hydra"} & set(plain)


def test_interpolations_are_resolved(composed: Compose) -> None:
    plain = resolve(composed("data=voc", "data.root=/somewhere"))
    assert plain["data"]["train"]["root"] == plain["data"]["val"]["root"] == "/somewhere"


def test_initial_weights_may_lie_in_the_home_folder(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    plain = resolve(composed("recipe.pretrained='~/last.ckpt'"))
    assert plain["recipe"]["pretrained"] == "/home/someone/last.ckpt"


def test_the_recipe_follows_the_data_unless_it_is_given(composed: Compose) -> None:
    assert resolve(composed("data=voc", "data.root=."))["recipe"]["max_steps"] == 30000
    assert resolve(composed("data=voc", "data.root=.", "recipe=shapes"))["recipe"]["max_steps"] == 300
    assert resolve(composed())["recipe"]["max_steps"] == 300


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data=voc", r"data\.root has no value.*data\.root=/data"),
        ("recipe.max_steps=???", r"recipe\.max_steps has no value.*recipe\.max_steps=VALUE"),
        ("+foo=1", r"unknown key 'foo'; there are model, "),
        ("+recipe.max_step=1", r"unknown key 'recipe\.max_step'; did you mean recipe\.max_steps\?"),
        ("+model.aspp_rate=1", r"did you mean model\.aspp_rates\?"),
        ("~seed", r"seed was removed"),
    ],
)
def test_keys_are_those_of_the_schemas(composed: Compose, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(composed(override))


def test_an_interpolation_cannot_take_the_place_of_a_section(composed: Callable[..., DictConfig]) -> None:
    config = composed()
    OmegaConf.update(config, "trainer", "${seed}")
    with pytest.raises(ConfigError, match=r"trainer=0 is not a section"):
        resolve(config)


def test_an_interpolation_that_leads_nowhere_is_told(composed: Callable[..., DictConfig]) -> None:
    config = composed()
    OmegaConf.update(config, "table", "${nowhere}")
    with pytest.raises(ConfigError, match="'nowhere' not found"):
        resolve(config)


@pytest.mark.parametrize(
    "variable", ["WANDB_API_KEY", "CI_JOB_TOKEN", "db_password", "DB_PASS", "GITHUB_PAT", "API_KEY_2", "DEPLOY_KEY"]
)
@pytest.mark.parametrize("value", ["${{oc.env:{variable}}}", "sent-with-{hidden}-in-it"])
def test_a_secret_of_the_environment_is_never_written_into_a_config(
    composed: Compose, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    hidden = "not-to-be-seen"
    monkeypatch.setenv(variable, hidden)
    text = value.format(variable=variable, hidden=hidden)
    config = composed("logger=wandb")
    OmegaConf.update(config, "logger.wandb.entity", text)
    with pytest.raises(ConfigError, match=rf"logger\.wandb\.entity holds the value of .* {variable}") as caught:
        resolve(config)
    assert hidden not in str(caught.value)


def test_what_else_the_environment_has_may_stand_in_a_config(
    composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOC_ROOT", "/somewhere/else")
    monkeypatch.setenv("KEY", "voc")  # too short to be a secret
    monkeypatch.setenv("MONKEY_BUSINESS", "/somewhere/else")
    monkeypatch.setenv("KEY_FOLDER", "/somewhere/else")
    monkeypatch.setenv("COMPASS_PATH", "/somewhere/else")
    assert resolve(composed("data=voc", "data.root=${oc.env:VOC_ROOT}"))["data"]["root"] == "/somewhere/else"


def test_a_path_that_is_there_is_no_secret_whatever_its_variable_is_called(
    composed: Compose, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSH_KEY", str(tmp_path))
    monkeypatch.setenv("LONG_TOKEN", "x" * 5000)
    assert resolve(composed("data=voc", "data.root=${oc.env:SSH_KEY}"))["data"]["root"] == str(tmp_path)
    monkeypatch.setenv("SSH_KEY", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"data\.root holds the value of .* SSH_KEY"):
        resolve(composed("data=voc", "data.root=${oc.env:SSH_KEY}"))


def _places(node: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Every key of a config, each with the section that it is in."""
    for key, value in node.items():
        yield node, key
        if isinstance(value, dict):
            yield from _places(value)


def test_a_written_config_is_read_as_it_was_and_takes_defaults_for_newer_keys(composed: Compose) -> None:
    plain = resolve(composed("logger=wandb", "data=camvid", "data.root=/somewhere"))
    assert written(copy.deepcopy(plain), where="config.yaml") == plain
    older = copy.deepcopy(plain)
    del older["trainer"]["restarts"], older["recipe"]["upsample_logits"], older["boundary"]
    assert written(older, where="config.yaml") == plain


def test_a_written_config_without_a_value_that_a_run_needs_is_told_with_its_key(composed: Compose) -> None:
    plain = resolve(composed())
    del plain["recipe"]["optimizer"]["lr"]
    with pytest.raises(StoreError, match=r"^a/config\.yaml: recipe\.optimizer\.lr is missing, which a run needs$"):
        written(plain, where="a/config.yaml")
    plain = resolve(composed("output_stride=8"))
    with pytest.raises(StoreError, match=r"^a/config\.yaml: output_stride: Value 'wide' .*Integer$"):
        written({**plain, "output_stride": "wide"}, where="a/config.yaml")


@pytest.mark.slow
@pytest.mark.every(7)
@pytest.mark.no_cover  # what it runs is counted in other tests, where it takes half the time
@pytest.mark.parametrize("damage", ["gone", None, 3, True, "x", [1], {"a": 1}])
def test_a_damaged_config_of_a_run_ends_in_an_error_of_the_store_only(composed: Compose, damage: Any) -> None:
    plain = resolve(composed())
    for index, _ in enumerate(list(_places(plain))):
        config = copy.deepcopy(plain)
        section, key = list(_places(config))[index]
        if damage == "gone":
            del section[key]
        else:
            section[key] = damage
        with suppress(StoreError):
            written(config, where="config.yaml")
