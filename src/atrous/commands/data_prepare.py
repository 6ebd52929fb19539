"""atrous-data prepare: say what would be downloaded, and with --yes download, verify, unpack and convert it."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from omegaconf import DictConfig

from atrous.data.preparation.parts import PARTS
from atrous.data.preparation.preparing import carry_out, choose, plan
from atrous.data.preparation.sources import MANUAL_STEPS
from atrous.errors import ConfigError, DataError
from atrous.files import at_home
from atrous.processes import Interrupts
from atrous.progress import tracked


class NotPreparedError(DataError):
    """A data set that is not there yet, because the user has to agree or to act."""

    exit_code = 1


def prepare(config: DictConfig) -> None:
    """Prepare a data set, or say what is to be done.

    Args:
        config: of the command.

    Raises:
        NotPreparedError: nothing was done, because the user has not agreed or the steps are manual.
        ConfigError: the data set or a part of it is unknown.
        DataError: a download, a checksum or an archive is wrong.
    """
    name = config.name
    if name in MANUAL_STEPS:
        print(MANUAL_STEPS[name].format(root=_root(config) if name != "shapes" else ""))  # noqa: T201
        if name == "cityscapes":
            raise NotPreparedError("nothing was downloaded: the steps above are yours")
        return
    if name not in PARTS:
        raise ConfigError(f"there is no preparation of {name!r}; there are {', '.join([*PARTS, *MANUAL_STEPS])}")
    root = at_home(_root(config))
    parts = choose(PARTS[name], config.parts)
    if all(part.is_done(root) for part in parts):
        print(f"{name} is prepared in {root}; next: atrous-data check {name} data.root={root}")  # noqa: T201
        return
    if not config.yes:
        print("\n".join(plan(parts, root)))  # noqa: T201
        raise NotPreparedError("nothing was downloaded or written: add --yes to do these steps")
    with Interrupts():
        carry_out(parts, root, fetch=_download, say=_say, track=_track)
    print(f"{name} is prepared; next: atrous-data check {name} data.root={root}")  # noqa: T201


def _root(config: DictConfig) -> str:
    from omegaconf import OmegaConf

    if OmegaConf.is_missing(config.data, "root"):
        raise ConfigError("data.root has no value: give the folder that the data set is to lie in, as data.root=FOLDER")
    return str(config.data.root)


def _download(url: str, target: Path) -> None:
    from atrous.weights.download import fetch

    fetch(url, sha256=None, cache=target.parent, checked_later=True).replace(target)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


def _track(ids: Sequence[str]) -> Iterable[str]:
    return tracked(ids, "converting masks", total=len(ids))
