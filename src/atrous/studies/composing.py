"""What Hydra says where it makes no config of overrides: whether an error is its own, and of which row it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from atrous.errors import AtrousError, ConfigError, RowError


@contextmanager
def naming_row(row: str | None) -> Iterator[None]:
    """Name the row that cannot be composed, or be run; nothing is named where it is None, as of a trial.

    Raises:
        ConfigError: what is wrong with the row.
        RowError: the same, where Hydra cannot even compose it.
    """
    try:
        yield
    except AtrousError as error:
        raise ConfigError(f"row {row}: {error}" if row else str(error)) from None
    except Exception as error:
        if row is None or not is_of_hydra(error):
            raise
        raise RowError(row, error) from error


def is_of_hydra(error: BaseException) -> bool:
    """Tell whether an error says what Hydra, or OmegaConf, cannot read."""
    return isinstance(error, HydraException | OmegaConfBaseException) or raised_by_hydra(error)


def raised_by_hydra(error: BaseException) -> bool:
    """Tell whether Hydra fell over what it was given, such as `model=3`, without an error of its own.

    So it did where OmegaConf fell over what Hydra handed on, such as `logger.wandb.images=1` where there is no such
    section, but not where somebody else called OmegaConf, and where a file that it reads is not UTF-8.
    """
    caller, trace = "", error.__traceback__
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__"))
        caller = caller if module.startswith("omegaconf.") or module == "codecs" else module
        trace = trace.tb_next
    return caller.startswith("hydra.")
