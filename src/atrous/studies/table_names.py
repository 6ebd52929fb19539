"""Which tables there are."""

from atrous.resources import experiments_folder


def table_names() -> list[str]:
    """Return the tables in the order of the papers, behind them the figures and what stands in the text."""
    folder = experiments_folder()
    names = [path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")]
    return sorted(names, key=lambda name: (name.split("/")[0], "/table" not in name, len(name.rstrip("ab")), name))
