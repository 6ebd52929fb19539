"""The errors that a user may meet: one line that says what is wrong, where, and what would be right."""

from atrous.exit_codes import REFUSED


class AtrousError(ValueError):
    """Base of every error that is the user's to mend; commands print it without a traceback.

    Attributes:
        exit_code: of a command that ends with this error, see `atrous.exit_codes`: REFUSED for what was asked, FAILED
            for what went wrong later.
    """

    exit_code = REFUSED


class ConfigError(AtrousError):
    """A key, a value or a combination of keys that cannot be run."""


class ArgumentError(ConfigError):
    """An argument of a constructor; the message begins with NAME=VALUE, so that its node's key can stand before it."""


class DataError(AtrousError):
    """A data folder, a list, an image or a mask that cannot be used."""


class CheckpointError(AtrousError):
    """A checkpoint or a weight file that does not fit or cannot be read safely."""


class UnreachableError(CheckpointError):
    """A checkpoint or a weight file that may be whole and cannot be read now: no permission, no memory, no server."""


class MisfitError(CheckpointError):
    """Weights that are whole and are another network's."""


class RowError(Exception):
    """A row of a sweep of which Hydra makes no config.

    Args:
        row: its name.
        cause: what Hydra says.
    """

    def __init__(self, row: str, cause: Exception) -> None:
        super().__init__(f"row {row}: {cause}")
        self.row, self.cause = row, cause


class StoreError(AtrousError):
    """A run store whose files are missing, damaged or written by a newer version."""
