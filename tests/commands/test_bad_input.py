"""A mistake on the command line: one line that says what would be right, soon, and nothing left behind."""

from pathlib import Path

import pytest

from .conftest import Run

TABLE = ("-m", "+experiment=deeplabv3/table1")


@pytest.mark.every(5)
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(("seeed=1",), ("'seeed'", "did you mean seed?"), id="unknown key"),
        pytest.param(("optimizer.lr=1",), ("'optimizer.lr'", "recipe.optimizer.lr"), id="key of another group"),
        pytest.param(("+recipe.max_step=3",), ("recipe.max_step", "recipe.max_steps"), id="added key"),
        pytest.param(("model.blocks=5",), ("model.blocks", "a key of model=deeplabv3"), id="key of another model"),
        pytest.param(("~seed",), ("seed was removed",), id="removed key"),
        pytest.param(("seed=abc",), ("seed=abc", "whole number"), id="word for an integer"),
        pytest.param(("recipe.optimizer.lr=fast",), ("recipe.optimizer.lr=fast", "a number"), id="word for a number"),
        pytest.param(("seed=[1",), ("KEY=VALUE", "[1"), id="broken syntax"),
        pytest.param(("seed=1,2",), ("seed=1,2", "-m"), id="sweep without -m"),
        pytest.param(("recipe.crop_size=130",), ("recipe.crop_size=130", "129 or 145"), id="crop"),
        pytest.param(("recipe.batch_size=1",), ("recipe.batch_size=1", "at least 2"), id="one image per rank"),
        pytest.param(("trainer.devices=3",), ("trainer.devices=3", "15 or 18"), id="devices"),
        pytest.param(
            ("trainer.batch_per_device=3", "trainer.accumulate=2"),
            ("batch_per_device=3", "= 6", "recipe.batch_size=16"),
            id="global batch",
        ),
        pytest.param(("data=voc",), ("data.root has no value", "data.root=/data"), id="data root not given"),
        pytest.param(("data=voc", "data.root=gone"), ("data.root='gone'", "not a folder"), id="data root absent"),
        pytest.param(("data=voc", "data.root=/"), ("data.root='/'", "VOCdevkit"), id="data root of something else"),
        pytest.param(("output_stride=12",), ("output_stride=12", "4, 8, 16, 32"), id="output stride"),
        pytest.param(("model.multi_grid=[1,2,4]",), ("model.multi_grid=[1, 2, 4]", "2 units"), id="multi-grid"),
        pytest.param(("backbone=51",), ("backbone=51", "must be a string"), id="number for a choice"),
        pytest.param(("backbone=resnet51",), ("backbone=resnet51", "resnet50", "tiny"), id="unknown choice"),
        pytest.param(("protocols=[nope]",), ("nope", "single_os8"), id="unknown protocol"),
        pytest.param(
            ("-m", "+experiment=deeplabv3/table99"),
            ("experiment=deeplabv3/table99", "deeplabv3/table1", "deeplabv3plus/table1"),
            id="unknown table",
        ),
        pytest.param((*TABLE, "scale=huge"), ("scale=huge", "paper", "shapes"), id="unknown scale"),
        pytest.param((*TABLE, "scale=smoke", "rows=[os7]"), ("'os7'", "os8, os16"), id="unknown row"),
        pytest.param((*TABLE, "scale=smoke", "rows=os7"), ("rows must be a list", "'rows=[...]'"), id="row, no list"),
        pytest.param((*TABLE, "scale=smoke", "rows=os8,os16"), ("'rows=[os8,os16]'",), id="rows, no list"),
        pytest.param(("model.aspp_rates=6",), ("'model.aspp_rates=[...]'",), id="number for a list"),
        pytest.param((*TABLE,), ("row os8: data.root has no value",), id="table without its data"),
        pytest.param(TABLE[1:], ("table of 6 runs", "add -m"), id="table without -m"),
        pytest.param(("scale=smoke",), ("scale=smoke", "-m +experiment"), id="scale without a table"),
        pytest.param(("store=file/below",), ("store=", "file/below"), id="store that cannot be made"),
        pytest.param(("-m", "store=file", "output_stride=8"), ("store='file'", "not a folder"), id="store of a sweep"),
    ],
)
def test_a_mistake_is_one_line_soon_and_leaves_nothing(
    atrous: Run, tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    (tmp_path / "file").touch()
    ended = atrous("train", *arguments)
    assert ended.code == 2
    (line,) = ended.errors
    assert line.startswith("error: ")
    for word in words:
        assert word in line
    assert ended.heavy == [], "what takes seconds to import"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_trace_can_be_asked_for(atrous: Run) -> None:
    assert "Traceback" in atrous("train", "seeed=1", HYDRA_FULL_ERROR="1").err


def test_all_mistakes_of_a_config_are_told_at_once(atrous: Run) -> None:
    ended = atrous("train", "recipe.crop_size=130", "recipe.max_steps=0")
    assert [line.split("=")[0] for line in ended.errors] == ["error: recipe.crop_size", "error: recipe.max_steps"]
