"""The site of a store: complete, true, and whole by itself, also beside a damaged run and after runs are gone."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import pytest
from omegaconf import DictConfig

from atrous.studies import jobs
from atrous.studies.reports import identity, site, tables
from atrous.studies.reports.identity import Remembered
from atrous.studies.reports.site import write_site
from atrous.studies.table import Sweep

from ..conftest import FakeJobs

pytestmark = pytest.mark.slow

Swept = Callable[..., tuple[DictConfig, Sweep]]
Compose = Callable[..., DictConfig]
TABLES = ["deeplabv3/table1", "deeplabv3/table2"]


class Laboratory:
    """A store that is trained by fake jobs, and its site."""

    def __init__(self, folder: Path, swept: Swept, composed: Compose, remembered: Path) -> None:
        self.store, self.site, self._swept, self._composed = folder / "store", folder / "site", swept, composed
        self._remembered = remembered
        if remembered.exists():  # what the sites of other stores remembered: to compose takes 0.2 s each
            (self.store / tables.CACHE).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(remembered, self.store / tables.CACHE)

    def train(self, *arguments: str) -> None:
        for _, overrides in self._swept(*arguments)[1].jobs():
            job = jobs.prepare(self._composed(*overrides, f"store={self.store}"), overrides)
            jobs.run(job, capture=True)

    def write(self) -> str:
        write_site(self.store, self.site, told=lambda text: None)
        shutil.copy(self.store / tables.CACHE, self._remembered)
        return self.page("index.html")

    def page(self, name: str) -> str:
        return (self.site / name).read_text()


@pytest.fixture(scope="module")
def remembered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the sites of these tests remember of rows."""
    return tmp_path_factory.mktemp("remembered") / "remembered.json"


@pytest.fixture
def laboratory(
    tmp_path: Path, swept: Swept, composed: Compose, fake_jobs: FakeJobs, remembered: Path
) -> Iterator[Laboratory]:
    """Two tables at two scales."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "table_names", lambda: TABLES)
        patch.setattr(tables, "scale_names", lambda: ["paper", "smoke"])
        yield Laboratory(tmp_path, swept, composed, remembered)


def test_an_empty_store_shows_what_the_papers_say(laboratory: Laboratory) -> None:
    index = laboratory.write()
    assert index.count("not begun") == len(TABLES)
    page = laboratory.page("tables/deeplabv3/table1/paper/index.html")
    assert "75.18" in page
    assert "0 of 6" in page


def test_tables_that_share_a_training_all_show_it_and_it_has_one_page(laboratory: Laboratory) -> None:
    laboratory.train("+experiment=deeplabv3/table1", "scale=smoke", "rows=[os16]", "seed=1,2")
    index = laboratory.write()
    assert "1 of 6" in index  # table 1
    assert "1 of 8" in index  # block7 at output stride 16 is a row of table 2 as well
    assert not (laboratory.site / "tables/deeplabv3/table1/paper").exists()
    for table in ("table1", "table2"):
        assert "3.10 ± 0.71" in laboratory.page(f"tables/deeplabv3/{table}/smoke/index.html")
    first, second = sorted(laboratory.site.glob("runs/*/*/index.html"))
    text = first.read_text()
    for shown in ("Table 1, scale smoke", "Table 2, scale smoke", "2.60%", "model=deeplabv3_cascade", "max_steps: 2"):
        assert shown in text
    assert "3.60%" in second.read_text()


def test_every_page_of_a_small_scale_says_so(laboratory: Laboratory) -> None:
    laboratory.train("+experiment=deeplabv3/table1", "scale=smoke", "rows=[os16]")
    laboratory.write()
    pages = list(laboratory.site.rglob("index.html"))
    assert len(pages) == 1 + len(TABLES) + 1
    for page in pages:
        assert re.search(r'class="label warn">[^<]*not a (reproduction|measurement)', page.read_text()), page


class _Addresses(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("href", "src")]


def test_links_are_relative_and_lead_somewhere_also_when_the_site_was_moved(laboratory: Laboratory) -> None:
    laboratory.train("+experiment=deeplabv3/table1", "scale=smoke", "rows=[os16]")
    (run,) = laboratory.store.glob("runs/*/seed0")
    evaluation = run / "evaluation" / "single" / "index.html"
    evaluation.parent.mkdir(parents=True)
    evaluation.write_text("<title>an evaluation</title>")
    laboratory.write()
    shutil.rmtree(laboratory.store)
    moved = laboratory.site.rename(laboratory.site.with_name("moved"))
    pages = sorted(moved.rglob("*.html"))
    seen = set()
    for page in pages:
        text = page.read_text()
        assert not re.search(r"https?://|<script|<link|@import|url\(", text), page
        links = _Addresses()
        links.feed(text)
        for address in links.found:
            assert not address.startswith(("/", "file:")), address
            target = (page.parent / unquote(address)).resolve()
            assert target.is_file(), f"{page}: {address}"
            seen.add(target)
    assert {page.resolve() for page in pages} - seen == set()


def test_a_cut_training_is_told_on_every_page_and_is_no_result(laboratory: Laboratory) -> None:
    laboratory.train("+experiment=deeplabv3/table1", "scale=smoke", "rows=[os16]", "recipe.max_steps=1")
    assert "0 of 6" in laboratory.write()
    told = "unfinished budget: seed 0 has 1 of 2 steps"
    page = laboratory.page("tables/deeplabv3/table1/smoke/index.html")
    assert told in page
    assert 'class="measured"></td>' in page
    assert not re.search(r'class="measured">\d', page)
    (run,) = laboratory.site.glob("runs/*/*/index.html")
    assert told in run.read_text()


def test_a_damaged_run_is_listed_and_the_others_are_shown(laboratory: Laboratory) -> None:
    laboratory.train("+experiment=deeplabv3/table1", "scale=smoke", "rows=[os16]", "seed=1,2")
    (hurt,) = laboratory.store.glob("runs/*/seed2")
    (hurt / "status.json").write_text("\0\0\0")
    index = laboratory.write()
    assert f"{hurt / 'status.json'}: not readable" in index
    assert "1 of 6" in index
    assert len(list(laboratory.site.glob("runs/*/*/index.html"))) == 1


def test_files_that_a_power_cut_or_an_editor_left_damaged_do_not_keep_the_others_from_being_shown(
    laboratory: Laboratory,
) -> None:
    laboratory.train("+experiment=deeplabv3/table1", "scale=smoke", "rows=[os16]")
    (run,) = laboratory.store.glob("runs/*/seed0")
    (run / "metrics.csv").write_bytes(b"step,train/loss\n1,0.5\n2,0.25\n" + b"\0" * 200_000)
    page = run / "evaluation" / "single" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_bytes(b"<title>an evaluation \xff</title>")
    laboratory.site.mkdir()
    (laboratory.site / "site.json").write_text("3")
    assert "1 of 6" in laboratory.write()
    (shown,) = laboratory.site.glob("runs/*/*/index.html")
    assert 'aria-label="loss"' in shown.read_text()
    assert "an evaluation" in next(laboratory.site.glob("runs/*/*/evaluation/single/index.html")).read_text()


def test_runs_of_no_table_have_their_pages_too(laboratory: Laboratory) -> None:
    laboratory.train("+experiment=deeplabv3/table1", "scale=smoke", "rows=[os16]", "recipe.optimizer.lr=0.5")
    index = laboratory.write()
    assert "Runs that are no row of a table" in index
    (page,) = laboratory.site.glob("runs/*/*/index.html")
    assert page.relative_to(laboratory.site).as_posix() in index


def test_pages_of_runs_that_are_gone_go_and_files_of_others_stay(laboratory: Laboratory) -> None:
    laboratory.train("+experiment=deeplabv3/table1", "scale=smoke", "rows=[os16]")
    laboratory.write()
    (page,) = laboratory.site.glob("runs/*/*/index.html")
    (page.parent / "mine.txt").write_text("a note")
    shutil.rmtree(next(laboratory.store.glob("runs/*")))
    laboratory.write()
    assert not page.exists()
    assert (page.parent / "mine.txt").read_text() == "a note"


def test_the_second_site_of_a_store_composes_nothing(laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    laboratory.train("+experiment=deeplabv3/table1", "scale=smoke", "rows=[os16]")
    first = laboratory.write()

    def refuse(*arguments: object, **named: object) -> None:
        raise AssertionError(f"composed {named}")

    for module in (identity, tables):
        monkeypatch.setattr(module, "compose", refuse)
    assert laboratory.write() == first


@pytest.mark.parametrize("text", ["{", '{"digest": "of another version", "answers": {"scales": {"smoke": []}}}'])
def test_what_is_remembered_is_dropped_when_it_is_damaged_or_of_other_configs(tmp_path: Path, text: str) -> None:
    path = tmp_path / "remembered.json"
    before = Remembered(path)
    assert before.get("scales", "smoke", lambda: ["kind"]) == ["kind"]
    before.save()
    assert Remembered(path).get("scales", "smoke", lambda: ["made anew"]) == ["kind"]
    path.write_text(text)
    assert Remembered(path).get("scales", "smoke", lambda: ["made anew"]) == ["made anew"]


@pytest.mark.parametrize("damage", [("kind", "king"), ("smoke", "smok_")])
def test_a_remembered_answer_that_a_disk_has_changed_is_none(tmp_path: Path, damage: tuple[str, str]) -> None:
    path = tmp_path / "remembered.json"
    before = Remembered(path)
    before.get("scales", "smoke", lambda: ["kind"])
    before.save()
    path.write_text(path.read_text().replace(*damage))
    assert Remembered(path).get("scales", damage[1], lambda: ["made anew"]) == ["made anew"]
    assert Remembered(path).get("scales", "smoke", lambda: ["made anew"]) == ["made anew"]


@pytest.mark.parametrize("answers", [[], 3, None, {"scales": []}, {"scales": {"smoke": "kind"}}])
def test_remembered_answers_without_their_sum_are_none(tmp_path: Path, answers: Any) -> None:
    path = tmp_path / "remembered.json"
    path.write_text(json.dumps({"digest": identity._digest(), "answers": answers}))
    assert Remembered(path).get("scales", "smoke", lambda: ["made anew"]) == ["made anew"]


@pytest.mark.parametrize("text", ["[" * 9999, '["a\\u0000b", "\\ud800"]', f'["{"a" * 9999}"]', "\xff", "[null, {}]"])
def test_a_list_of_pages_that_is_damaged_keeps_no_site_from_being_written(tmp_path: Path, text: str) -> None:
    (tmp_path / "site.json").write_text(text, encoding="latin-1")
    site._tidy(tmp_path, [PurePosixPath("index.html")])
    assert json.loads((tmp_path / "site.json").read_text()) == ["index.html"]


def test_what_cannot_be_remembered_is_found_again(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    remembered = Remembered(tmp_path / "taken" / "remembered.json")
    assert remembered.get("scales", "smoke", lambda: ["kind"]) == ["kind"]
    remembered.save()
    assert remembered.get("scales", "smoke", lambda: ["again"]) == ["kind"]
