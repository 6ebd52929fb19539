"""Hydra's and OmegaConf's messages as one line: the key, its value and what would be right."""

import difflib
import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from hydra.errors import HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import (
    GrammarParseError,
    InterpolationKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    UnsupportedInterpolationType,
    ValidationError,
)
from yaml import YAMLError

from atrous.errors import RowError
from atrous.resources import conf_folder, experiments_folder
from atrous.studies.schema import ExperimentConfig, RowConfig

# what there is beside the files of conf/, each with the extra that installs it
_PLUGINS: dict[str, dict[str, str | None]] = {
    "hydra/launcher": {
        "local": None,
        "basic": None,
        "submitit_slurm": "slurm",
        "submitit_local": "slurm",
        "ray": "ray",
    },
    "hydra/sweeper": {"study": None, "optuna": "optuna"},
}
_WITHOUT_SWEEPS = ("data_command", "evaluate", "export", "predict")
_NO_INTERPOLATION = (GrammarParseError, InterpolationKeyError, UnsupportedInterpolationType)
_NO_LIST = r"Invalid value assigned: \w+ is not a ListConfig"
_KINDS = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}


def explain(error: BaseException, *, config_name: str) -> str:
    """One line out of an error's message, with what looks like the thing that was meant.

    Args:
        error: raised while a config was composed or read.
        config_name: the primary config, whose keys are known.
    """
    if isinstance(error, RowError):
        return f"row {error.row}: {explain(error.cause, config_name=config_name)}"
    if isinstance(error, YAMLError):
        return f"a config file is no YAML: {' '.join(str(error).split())}"
    return _one_line(error, config_name)


def _one_line(error: BaseException, config_name: str) -> str:
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _missing_file(error.missing_cfg_file)
    inner = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    of_table = re.match(r"In 'experiment/([^']+)': \w+ raised while composing config:\s+(.*)", str(error), re.DOTALL)
    if of_table:
        return f"experiments/{of_table[1]}.yaml: {_in_table(of_table[2])}"
    if isinstance(inner, MissingMandatoryValue):
        return f"{inner.full_key} has no value: give one as {inner.full_key}=VALUE"
    if isinstance(inner, (ValidationError, *_NO_INTERPOLATION)) and inner.full_key:
        return _wrong_type(inner)
    line = " ".join(part.strip() for part in str(inner).splitlines() if part.strip() and "object_type" not in part)
    if "hydra.cc/docs" in line:
        return _grammar(str(error))
    several = re.search(r"Ambiguous value for argument '([^=]+)=(.*?)' 1", line)
    if several:
        key, values = several.groups()
        advice = "" if config_name in _WITHOUT_SWEEPS else " add -m for a sweep over them, or"
        line = f"{key}={values} is several values:{advice} write a list as '{key}=[{values}]'"
    unknown = re.search(r"[Kk]ey '([^']+)' (?:is )?not in", line)
    if unknown:
        override = re.search(r"Could not override '([^']+)'", str(error))
        key = override.group(1) if override else str(getattr(inner, "full_key", None) or unknown.group(1))
        line = f"unknown key {key!r}; {_similar(key, config_name)}"
    return line


def _in_table(line: str) -> str:
    """What is wrong in a table's file: an unknown key of the table or of a row, or a value of another type."""
    unknown = re.search(r"Key '([^']+)' not in '(\w+)'", line)
    schemas = {"RowConfig": RowConfig, "ExperimentConfig": ExperimentConfig}
    if unknown and unknown[2] in schemas:
        known = [entry.name for entry in fields(schemas[unknown[2]])]
        close = difflib.get_close_matches(unknown[1], known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
        return f"unknown key {unknown[1]!r}{' in a row' if unknown[2] == 'RowConfig' else ''}; {hint}"
    value = re.search(r"Value '(.*?)' of type '(\w+)' could not be converted to (\w+)", line)
    found = re.search(r"full_key: (\S+)", line)
    place = found[1] if found else "a value"
    if value:
        return f"{place}={value[1]!r} is not {_KINDS.get(value[3], value[3])}"
    if re.search(_NO_LIST, line):
        return f"{place} is not a list: write its entries in brackets, {place}: [...]"
    no_table = re.search(r"Cannot assign (\w+) to Dict", line)
    if no_table:
        return f"{place} is a {no_table[1]}, not names with values: {place}: {{NAME: VALUE}}"
    return " ".join(part.strip() for part in line.splitlines() if part.strip() and "_type=" not in part)


def _grammar(text: str) -> str:
    shown = " ".join(part.strip() for part in text.splitlines() if part.strip(" ^") and "hydra.cc" not in part)
    in_vain = re.search(r"[=,\[]~", text)
    hint = "; ~ is the home folder of a user that there is, at the beginning: write the path" if in_vain else ""
    return (
        f"not an override (KEY=VALUE; quote what the shell or Hydra would split, e.g. 'rows=[os8,os16]'{hint}): {shown}"
    )


def _missing_file(name: str) -> str:
    group, _, choice = name.rpartition("/") if name.startswith("hydra/") else name.partition("/")
    plugins = _PLUGINS.get(group, {})
    if plugins.get(choice):  # Hydra would have found it, were it installed
        return f"{group}={choice} needs a package of its own: pip install 'atrous[{plugins[choice]}]'"
    folder = experiments_folder() if group == "experiment" else conf_folder() / group
    files = (path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))
    known = [*plugins, *sorted(files)]
    if not choice or not known:
        folders = sorted(path.name for path in conf_folder().iterdir() if path.is_dir())
        return f"there is no config {name!r}; groups are {', '.join(folders)} and experiment"
    close = difflib.get_close_matches(choice, known, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return f"{group}={choice} does not exist{hint}; there are {', '.join(known)}"


def _wrong_type(error: OmegaConfBaseException) -> str:
    text = str(error).splitlines()[0]
    found = re.search(r"Value '(.*)' of type '.*' could not be converted to (\w+)", text)
    if found:
        return f"{error.full_key}={found.group(1)}: must be {_KINDS.get(found.group(2), found.group(2))}"
    if re.search(_NO_LIST, text):
        return f"{error.full_key} must be a list, in brackets: '{error.full_key}=[...]'"
    advice = "; write \\${ where the characters ${ themselves are meant" if isinstance(error, _NO_INTERPOLATION) else ""
    return f"{error.full_key}: {text}{advice}"


def _similar(key: str, config_name: str) -> str:
    names, (group, _, leaf) = sorted(_known_keys(config_name)), key.rpartition(".")
    if key in names and not group:  # of a group, another choice may have it
        return f"it was removed (~{key}) and is set all the same"
    joined, section = key.replace(".", "_"), key.partition(".")[0]
    if joined in names:
        return f"did you mean {joined}?"
    if section in names and (conf_folder() / section).is_dir():
        choices = ", ".join(sorted(path.stem for path in (conf_folder() / section).glob("*.yaml")))
        return f"{section} is null here and has no keys until one is chosen: add {section}=NAME, one of {choices}"
    for choice in sorted((conf_folder() / group).glob("*.yaml")) if group else ():
        if key in _known_keys(config_name, f"{group}={choice.stem}"):
            return f"it is a key of {group}={choice.stem}: add that"
    close = [name for name in names if name.rsplit(".", 1)[-1] == leaf]
    close += [name for name in difflib.get_close_matches(key, names, n=2, cutoff=0.7) if name not in close]
    return f"did you mean {' or '.join(close[:3])}?" if close else "see --help for the keys that there are"


def _known_keys(config_name: str, *overrides: str) -> set[str]:
    from hydra import compose, initialize_config_dir

    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
            config = compose(config_name=config_name, overrides=list(overrides))
    except (HydraException, OmegaConfBaseException):
        return set()  # a group that this primary config does not have
    return set(_leaves(OmegaConf.to_container(config, resolve=False)))


def _leaves(node: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _leaves(value, f"{prefix}.{key}".lstrip("."))
    else:
        yield prefix
