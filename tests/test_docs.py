"""README and docs/: no dead links, and every command and every file that they show is one that the program takes."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from atrous.commands import data, evaluate, export, predict, report
from atrous.data.class_list import ClassList
from atrous.resources import conf_folder, experiments_folder
from atrous.studies.command_line import sweep_of
from atrous.studies.schema import ExperimentConfig, register

pytestmark = pytest.mark.no_cover  # what it runs is counted in other tests, in half the time

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"```bash\n(.*?)```", re.DOTALL)
_YAML = re.compile(r"```yaml\n(.*?)```", re.DOTALL)
_CONFIGS = {"train": "train", "evaluate": "evaluate", "report": "report", "predict": "predict", "export": "export"}


def _pages() -> list[Path]:
    return [page for page in PAGES if "_build" not in page.parts]


@pytest.mark.parametrize("page", _pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_link_is_dead(page: Path) -> None:
    text = page.read_text()
    for target in _LINK.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        if re.match(r"https?://|mailto:", target):
            continue
        place, _, anchor = target.partition("#")
        file = page if not place else (page.parent / place).resolve()
        assert file.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in _anchors(file), f"{page.name} links to {target}"


def test_every_page_of_the_docs_is_in_a_table_of_contents() -> None:
    listed = set()
    for page in _pages():
        for body in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text(), re.DOTALL):
            for line in (line.strip() for line in body.splitlines()):
                if line == "*":
                    listed |= {path.resolve() for path in page.parent.glob("*.md")}
                elif line and not line.startswith(":"):
                    listed.add((page.parent / f"{line}.md").resolve())
    wanted = {page for page in _pages() if page.is_relative_to(ROOT / "docs") and page != ROOT / "docs" / "index.md"}
    assert {page.resolve() for page in wanted} <= listed


def _anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def _commands() -> Iterator[tuple[str, str]]:
    for page in _pages():
        for block in _FENCE.findall(page.read_text()):
            for line in block.replace("\\\n", " ").splitlines():
                if re.match(r"\s*(atrous-|make )", line):
                    yield page.name, line.strip()


COMMANDS = sorted(set(_commands()))


def test_the_docs_show_commands() -> None:
    assert len(COMMANDS) > 30


@pytest.mark.parametrize("line", [line for _, line in COMMANDS if line.startswith("make ")])
def test_every_target_that_the_docs_name_is_there(line: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for word in shlex.split(line, comments=True)[1:]:
        key, equals, value = word.partition("=")
        if not equals:
            assert word in targets, line
        elif key in ("TABLE", "FIGURE") and not value.startswith("mypaper"):
            assert (experiments_folder() / f"{value}.yaml").is_file(), line
        elif key == "SCALE":
            assert (conf_folder() / "scale" / f"{value}.yaml").is_file(), line


@pytest.mark.every(5)
@pytest.mark.no_cover  # what it runs is counted in other tests, where it takes half the time
@pytest.mark.parametrize("line", sorted({line for _, line in COMMANDS if line.startswith("atrous-")}))
def test_every_command_that_the_docs_show_is_taken(line: str) -> None:
    program, *words = shlex.split(line, comments=True)
    name = program.removeprefix("atrous-")
    arguments = [word for word in words if word not in ("-m", "...") and not word.startswith("--")]
    arguments = [word for word in arguments if word != "job"]  # of --cfg job
    if any(word.startswith(("hydra/launcher=", "hydra/sweeper=")) for word in arguments):
        pytest.skip("Hydra's own launchers and sweepers are extras: tests/cluster and test_search.py run them")
    register()
    store = ConfigStore.instance()
    store.store(name="predict_schema", node=predict.PredictConfig)
    store.store(name="export_schema", node=export.ExportConfig)
    store.store(name="data_command_schema", node=data.DataCommandConfig)
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        overrides = list(_written_out(name, arguments))
        config_name = _CONFIGS.get(name, "data_command")
        config = hydra.compose_config(
            config_name=config_name, overrides=overrides, run_mode=RunMode.MULTIRUN, from_shell=False
        )
        if name == "train" and "-m" in words:
            sweep_of(config, overrides)


def _written_out(name: str, arguments: list[str]) -> Iterator[str]:
    """Arguments as each command hands them to Hydra."""
    if name == "data":
        yield from data.expand(arguments)
        return
    for text in arguments:
        if name == "report" and text in report.SUBJECTS:
            yield f"subject={text}"
        elif name == "predict":
            yield predict.written_out(text)
        elif name == "evaluate":
            yield evaluate.written_out(text)
        else:
            yield text


SHOWN_FILES = [(page, text) for page in _pages() for text in _YAML.findall(page.read_text())]


def test_the_docs_show_files() -> None:
    assert len(SHOWN_FILES) > 3


@pytest.mark.parametrize(("page", "text"), SHOWN_FILES, ids=lambda shown: getattr(shown, "stem", ""))
def test_every_file_that_the_docs_show_is_taken(page: Path, text: str) -> None:
    """A class list says so in its first line; all others are a table, or some keys of one."""
    content = yaml.safe_load(text)
    if text.startswith("# classes.yaml"):
        assert len(ClassList(content, root=page.parent).spec.classes) > 1
        return
    content.pop("defaults", None)
    table = OmegaConf.merge(OmegaConf.structured(ExperimentConfig), OmegaConf.create(content))
    assert {"rows", "overrides"} & set(content)
    assert not any(OmegaConf.missing_keys(row) for row in OmegaConf.select(table, "rows"))


@pytest.mark.exhaustive
@pytest.mark.skipif(shutil.which("sphinx-build", path=str(Path(sys.executable).parent)) is None, reason="no sphinx")
def test_the_docs_build_without_a_warning(tmp_path: Path) -> None:
    program = Path(sys.executable).parent / "sphinx-build"
    done = subprocess.run(
        [program, "-W", "--keep-going", "-q", ROOT / "docs", tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "deeplabv3plus/figure5" in (tmp_path / "guide" / "running.html").read_text()
