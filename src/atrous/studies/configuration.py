"""From Hydra's config to a plain one, whose keys are those of the schemas."""

import dataclasses
import difflib
import itertools
import os
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from atrous.errors import ConfigError, StoreError
from atrous.files import at_home
from atrous.studies.schema import ReportConfig, RunConfig

# What a secret's environment variable has between underscores, and the shortest value that is taken for one. A KEY is
# one at the end, and after API: KEY_FOLDER names a folder.
_SECRET_WORDS = {"APIKEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASS", "PAT", "CREDENTIALS"}
_SHORTEST_SECRET = 8
_OF_REPORTS = {entry.name for entry in dataclasses.fields(ReportConfig)}
_OF_RUNS = {entry.name for entry in dataclasses.fields(RunConfig)}
OF_THE_TABLE = frozenset({"experiment", "scale", "rows", "fail_fast"} | (_OF_REPORTS - _OF_RUNS))  # no part of a run

Config = dict[str, Any]


def resolve(config: DictConfig, *, needs_root: bool = True) -> Config:
    """The config of one run as plain values, without what belongs to the sweep.

    Args:
        config: as Hydra composed it.
        needs_root: whether a missing data.root is an error; who a run is does not depend on it.

    Raises:
        ConfigError: names the first key that does not exist (`+key=` adds any), has no value, or holds a secret of the
            environment.
    """
    _compare_with_schema(config)
    if not needs_root and OmegaConf.is_missing(config.data, "root"):
        with open_dict(config):
            config.data.root = "."
    try:
        keys = [key for key in config if key != "hydra" and key not in OF_THE_TABLE]
        plain = {str(key): _plain(config[key]) for key in keys}
        _check_sections(OmegaConf.get_type(config), plain)
    except MissingMandatoryValue as error:
        raise ConfigError(_explain_missing(error.full_key)) from None
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {str(error).splitlines()[0]}".removeprefix("None: ")) from None
    recipe = plain.get("recipe")  # which predict and export have not
    if recipe is not None and str(recipe["pretrained"]).startswith("~"):  # in quotes no shell has expanded it
        recipe["pretrained"] = str(at_home(recipe["pretrained"]))
    _refuse_secrets(plain)
    return plain


def _plain(value: Any) -> Any:
    """A value, resolved once: twice, what is written to be no interpolation would be one."""
    return OmegaConf.to_container(value, resolve=True, throw_on_missing=True) if OmegaConf.is_config(value) else value


def written(config: Config, *, where: str) -> Config:
    """A run's config as it was written, with the defaults of keys that an earlier version did not have.

    Args:
        config: as it was read.
        where: its file, for errors.

    Raises:
        StoreError: names a key that has no value, or one of another type.
    """
    try:
        complete = OmegaConf.merge(OmegaConf.structured(RunConfig), OmegaConf.create(config))
        plain = OmegaConf.to_container(complete, resolve=False, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise StoreError(f"{where}: {error.full_key} is missing, which a run needs") from None
    except (OmegaConfBaseException, ValueError) as error:
        key = getattr(error, "full_key", None)
        raise StoreError(f"{where}: {f'{key}: ' if key else ''}{str(error).splitlines()[0]}") from None
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items() if key not in OF_THE_TABLE}


def _compare_with_schema(node: DictConfig, prefix: str = "") -> None:
    """Refuse keys that no schema has, and schemas' keys that are gone: Hydra's `+key=value` and `~key` allow both."""
    kind = OmegaConf.get_type(node)
    if not dataclasses.is_dataclass(kind):
        return  # a constructor's arguments, or a table of free keys
    known, keys = [entry.name for entry in dataclasses.fields(kind)], [str(key) for key in node]
    gone = [key for key in known if key not in keys]
    if gone:
        raise ConfigError(f"{prefix}{gone[0]} was removed (~{prefix}{gone[0]}), but a run needs it")
    for key in keys:
        name = f"{prefix}{key}"
        if name == "hydra" or OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key):
            continue
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {prefix}{close[0]}?" if close else f"there are {', '.join(known)}"
            raise ConfigError(f"unknown key {name!r}; {hint}")
        if isinstance(node[key], DictConfig):
            _compare_with_schema(node[key], f"{name}.")


def _check_sections(schema: Any, plain: Any, prefix: str = "") -> None:
    """Refuse an interpolation in the place of a section or a list, as in trainer=${seed}."""
    if not dataclasses.is_dataclass(schema):
        return
    kinds = typing.get_type_hints(schema)
    for key, value in plain.items():
        kind, name = kinds.get(key), f"{prefix}{key}"
        if dataclasses.is_dataclass(kind) and not isinstance(value, dict):
            raise ConfigError(f"{name}={value!r} is not a section with keys of its own")
        if typing.get_origin(kind) is list and not isinstance(value, list):
            raise ConfigError(f"{name}={value!r} is not a list")
        if dataclasses.is_dataclass(kind):
            _check_sections(kind, value, f"{name}.")


def _refuse_secrets(plain: Any) -> None:
    """A config is written down and sent to W&B; what `${oc.env:...}` or a shell put into it would be, too."""
    secrets = {value: name for name, value in os.environ.items() if _is_secret(name, value)}
    for key, text in _texts(plain):
        for value, name in secrets.items():
            if value in text:
                raise ConfigError(
                    f"{key} holds the value of the environment variable {name}, which looks like a secret, and a run's "
                    "config is written to disk and may go to W&B: leave it in the environment"
                )


def _is_secret(name: str, value: str) -> bool:
    """Whether an environment variable looks like one that holds a secret itself, not the path of a file with it."""
    words = name.upper().split("_")
    is_named = words[-1] == "KEY" or ("API", "KEY") in itertools.pairwise(words)
    if len(value) < _SHORTEST_SECRET or not (is_named or _SECRET_WORDS & set(words)):
        return False
    try:
        return not Path(value).exists()
    except OSError:  # too long for a path
        return True


def _texts(node: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a config, keys as well, with the name of its place."""
    if isinstance(node, dict):
        for key, value in node.items():
            inner = f"{name}.{key}" if name else str(key)
            yield name or "the config", str(key)
            yield from _texts(value, inner)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _texts(value, f"{name}[{index}]")
    elif isinstance(node, str):
        yield name, node


def _explain_missing(key: str | None) -> str:
    if key == "data.root":
        return (
            "data.root has no value: give the folder of the data set, e.g. data.root=/data (see conf/data), "
            "or data=shapes, which needs none"
        )
    return f"{key} has no value: give one as {key}=VALUE"
