"""Chained trainings: a run that starts from the weights of another one (COCO, then VOC; one stage, then the next).

A run's key `parent` lists overrides on top of its own: what the training before it was. That one is a run like any
other, with its own folder, shared by all that start from it, and its identity is part of theirs. It may have a parent
itself: `parent=[...]` among the overrides.
"""

from __future__ import annotations

from collections.abc import Sequence

from hydra import compose

from atrous.errors import ConfigError
from atrous.studies.configuration import Config, resolve
from atrous.studies.identity import Identity, identify
from atrous.studies.overrides import key_of, merge, parse

_CHILDS_OWN = ("parent", "protocols", "boundary", "submission", "table", "row")


def parent_overrides(config: Config, overrides: Sequence[str]) -> list[str] | None:
    """Return the overrides of the training that a run starts from; None where it starts by itself.

    Args:
        config: The run's resolved config.
        overrides: Its overrides.

    Raises:
        ConfigError: An entry of `parent` is not an override.
    """
    if config["parent"] is None:
        return None
    for entry in config["parent"]:
        if "=" not in entry:
            raise ConfigError(f"parent: {entry!r} is not an override, e.g. parent=['data=coco','recipe=coco']")
    listed = {key_of(override): override for override in parse(config["parent"])}
    own = [
        text for text, override in zip(overrides, parse(overrides), strict=True) if key_of(override) not in _CHILDS_OWN
    ]
    root = []
    if config["parent_root"] is not None and "data" in listed:
        root = [f"data.root={config['parent_root']}", "parent_root=null"]
    last = [] if "parent" in listed else ["parent=null"]
    return [*merge([*own, *config["parent"], *root]), *last]


def compose_parent(config: Config, overrides: Sequence[str]) -> tuple[Config, list[str]] | None:
    """Return the resolved config and the overrides of a run's parent; needs an initialised Hydra."""
    parents = parent_overrides(config, overrides)
    if parents is None:
        return None
    return resolve(compose(config_name="train", overrides=parents), needs_root=False), parents


def identity_of(config: Config, overrides: Sequence[str]) -> Identity:
    """Return a run's identity, which contains its parent's; needs an initialised Hydra where there is one."""
    parent = compose_parent(config, overrides)
    return identify(config, parent=None if parent is None else identity_of(*parent))
