"""experiments/ as the config group `experiment`, so that `+experiment=deeplabv3/table1` finds its file."""

from pathlib import Path

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult
from hydra.plugins.search_path_plugin import SearchPathPlugin

from atrous.errors import ConfigError
from atrous.resources import conf_folder, experiments_folder

_GROUP = "experiment"


class ExperimentsSearchPath(SearchPathPlugin):
    """Adds experiments/ to the search path of our own commands; other Hydra applications stay as they are."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the folder where conf/ is the primary config folder."""
        paths = [str(element.path).removeprefix("file://") for element in search_path.get_path()]
        if str(conf_folder()) in paths:
            search_path.append(provider="atrous", path=f"experiments://{experiments_folder()}")


class ExperimentsSource(FileConfigSource):
    """The folder behind `experiments://`, mounted one level down."""

    @staticmethod
    def scheme() -> str:
        """Prefix in hydra.searchpath."""
        return "experiments"

    def load_config(self, config_path: str) -> ConfigResult:
        """Read a file of the folder.

        Raises:
            ConfigError: it is not UTF-8.
        """
        inside = _inside(config_path) or ""
        try:
            return super().load_config(inside)
        except UnicodeDecodeError as error:
            file = f"experiments/{inside.removesuffix('.yaml')}.yaml"
            raise ConfigError(f"{file}: not UTF-8, as YAML is ({error})") from None

    def available(self) -> bool:
        """Whether the folder exists."""
        return super().is_group("")

    def is_group(self, config_path: str) -> bool:
        """Whether `config_path` is the group or a folder in it."""
        inside = _inside(config_path)
        return config_path == "" or (inside is not None and super().is_group(inside))

    def is_config(self, config_path: str) -> bool:
        """Whether `config_path` is a file of the group."""
        inside = _inside(config_path)
        return bool(inside) and super().is_config(str(inside))

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Every table of every paper as a choice of the one group, so that help and completion show them in full."""
        if config_path == "":
            return [_GROUP] if results_filter in (None, ObjectType.GROUP) else []
        if config_path != _GROUP or results_filter == ObjectType.GROUP:
            return []
        folder = Path(self.path)
        return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


def _inside(config_path: str) -> str | None:
    """The path below the group; None for what is not in it."""
    if config_path == _GROUP:
        return ""
    return config_path[len(_GROUP) + 1 :] if config_path.startswith(f"{_GROUP}/") else None
