"""atrous-data: prepare, check and show the papers' data sets and your own.

The words `check voc` are short for the keys `action=check data=voc`.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from atrous.commands.app import run_app
from atrous.errors import ConfigError
from atrous.studies.schema_recipe import DataConfig, RecipeConfig

ACTIONS = ("prepare", "check", "show")
_BEGINS_ANEW = "nothing of it is kept: the same command begins anew"
_GOES_ON = "the same command goes on where it stopped"


@dataclass
class DataCommandConfig:
    """What atrous-data does with which data set."""

    action: str | None = None
    name: str | None = None
    data: DataConfig = field(default_factory=DataConfig)
    recipe: RecipeConfig = field(default_factory=RecipeConfig)
    store: str = "outputs"
    seed: int = 0
    workers: int | None = None
    samples: int = 12
    epoch: int = 0
    columns: int = 2
    output: str | None = None
    yes: bool = False
    parts: list[str] | None = None


def task(config: DictConfig) -> None:
    """Do what the command line's first word says."""
    if config.action not in ACTIONS:
        given = f", not {config.action}" if config.action else ""
        raise ConfigError(f"what to do? atrous-data prepare, check or show NAME{given}")
    if config.name is None:
        raise ConfigError(
            f"which data set? atrous-data {config.action} NAME, a file of conf/data such as voc or camvid"
        )
    if config.action == "prepare":
        from atrous.commands.data_prepare import prepare as run
    elif config.action == "check":
        from atrous.commands.data_check import check as run
    else:
        from atrous.commands.data_show import show as run
    run(config)


def expand(arguments: Sequence[str]) -> list[str]:
    """Turn the leading words into keys: `check voc --yes a=1` into `action=check name=voc data=voc yes=true a=1`."""
    words: list[str] = []
    rest = [*arguments]
    while rest and len(words) < 2 and not rest[0].startswith(("-", "+", "~")) and "=" not in rest[0]:
        words.append(rest.pop(0))
    keys = [f"action={words[0]}"] if words else []
    if len(words) == 2:
        keys += [f"name={words[1]}", f"data={words[1]}"]
    return [*keys, *("yes=true" if argument == "--yes" else argument for argument in rest)]


def main() -> None:
    """Entry point."""
    ConfigStore.instance().store(name="data_command_schema", node=DataCommandConfig)
    sys.argv[1:] = expand(sys.argv[1:])
    is_kept = "action=prepare" in sys.argv
    run_app(task, config_name="data_command", interrupted=_GOES_ON if is_kept else _BEGINS_ANEW)


if __name__ == "__main__":
    main()
