"""What a run's folder says of its images: a folder of one's own is another data set when other files lie in it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from omegaconf import DictConfig
from PIL import Image

from atrous.errors import StoreError
from atrous.prediction.label_spaces import spec_of_data
from atrous.studies import jobs
from atrous.studies.job_folder import write_folder
from atrous.studies.jobs import Job

pytestmark = pytest.mark.slow

Prepare = Callable[[Path], Job]


def _add(root: Path, name: str) -> None:
    for kind, ending, mode in (("images", "jpg", "RGB"), ("masks", "png", "L")):
        path = root / kind / f"{name}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, (65, 65)).save(path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    for name in ("train/a", "train/b", "val/c"):
        _add(root, name)
    (root / "classes.yaml").write_text("classes: [road, tree]\n")
    return root


@pytest.fixture
def prepare(composed: Callable[..., DictConfig], tmp_path: Path) -> Prepare:
    overrides = ("data=folder", "data.classes=classes.yaml", "recipe.crop_size=65", "recipe.batch_size=2")
    store = f"store={tmp_path / 'store'}"
    return lambda root: jobs.prepare(composed(*overrides, f"data.root={root}", store), [])


def test_a_run_is_not_taken_for_one_of_other_images(data: Path, prepare: Prepare) -> None:
    job = prepare(data)
    write_folder(job)
    assert prepare(data).identity == job.identity
    _add(data, "train/d")
    with pytest.raises(StoreError, match=r"was trained on other images and masks than data\.root=.*store=FOLDER"):
        prepare(data)


def test_a_run_tells_its_classes_wherever_it_is_read_and_whatever_becomes_of_their_list(
    data: Path, prepare: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = prepare(data)
    write_folder(job)
    (data / "classes.yaml").write_text("classes: [tree, road]\n")
    monkeypatch.chdir(tmp_path)
    Path("classes.yaml").write_text("classes: [cat, dog]\n")
    assert "&id" not in job.folder.config_file.read_text()
    config = yaml.safe_load(job.folder.config_file.read_text())
    assert config["data"]["classes"] == {"classes": ["road", "tree"]}
    for split in ("train", "val"):
        assert spec_of_data(config["data"][split]).classes == ("road", "tree")
    assert prepare(data).identity != job.identity  # another list, another run


def test_a_folder_that_was_moved_is_the_same(data: Path, prepare: Prepare) -> None:
    job = prepare(data)
    write_folder(job)
    moved = data.with_name("moved")
    shutil.move(data, moved)
    assert prepare(moved).folder.path == job.folder.path


def test_a_run_of_an_earlier_version_that_did_not_note_its_images_goes_on(data: Path, prepare: Prepare) -> None:
    job = prepare(data)
    job.folder.create(config_yaml="{}", facts={"name": "older"})
    _add(data, "train/d")
    assert prepare(data).folder.path == job.folder.path
