"""Nothing that is read is ever run, nothing that is unpacked leaves its folder, and no secret is written down."""

import ast
import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import atrous
from atrous.building import build, build_network, check_targets
from atrous.data.spec import DatasetSpec
from atrous.errors import CheckpointError, ConfigError
from atrous.prediction.description import Description
from atrous.prediction.label_spaces import spec_of_data
from atrous.weights.download import fetch

SOURCE = Path(__file__).resolve().parents[1] / "src"


@functools.cache
def calls() -> list[tuple[str, str, ast.Call]]:
    """Every call in the package: where it stands, what is called (as it is written) and the call."""
    return [
        (f"{path.relative_to(SOURCE)}:{node.lineno}", ast.unparse(node.func), node)
        for path in sorted(SOURCE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    ]


def keyword(call: ast.Call, name: str) -> str | None:
    """A keyword argument as it is written."""
    return next((ast.unparse(entry.value) for entry in call.keywords if entry.arg == name), None)


def offenders(is_bad: Callable[[str, ast.Call], bool]) -> list[str]:
    return [f"{where}: {name}" for where, name, call in calls() if is_bad(name, call)]


def test_torch_files_are_read_as_data_only() -> None:
    assert not offenders(lambda name, call: name == "torch.load" and keyword(call, "weights_only") != "True")
    # Lightning's own access would read as it likes; ours takes its place.
    assert any(name == "torch.load" for _, name, _ in calls())


def test_yaml_is_read_by_safe_loaders_only() -> None:
    def is_bad(name: str, call: ast.Call) -> bool:
        unsafe = name in ("yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "yaml.unsafe_load_all")
        return unsafe or (name == "yaml.load" and "Safe" not in (keyword(call, "Loader") or ""))

    assert not offenders(is_bad)


def test_numpy_files_are_read_without_pickles() -> None:
    assert not offenders(lambda name, call: name == "np.load" and keyword(call, "allow_pickle") != "False")


def test_nothing_is_evaluated_unpickled_or_given_to_a_shell() -> None:
    forbidden = {"eval", "exec", "compile", "os.system", "os.popen", "pickle.load", "pickle.loads", "marshal.loads"}
    assert not offenders(lambda name, call: name in forbidden or name.endswith(("joblib.load", "dill.load")))
    assert not offenders(lambda name, call: keyword(call, "shell") not in (None, "False"))


def test_no_archive_is_unpacked_by_its_own_names() -> None:
    """`extractall` and `extract` of tarfile and zipfile would follow them; ours opens members and names the files."""
    assert not offenders(lambda name, call: name.endswith((".extractall", ".unpack_archive")))
    allowed = "atrous/data/preparation/"  # whose own `extract` it is
    assert not [where for where, name, _ in calls() if name.split(".")[-1] == "extract" and allowed not in where]


def test_temporary_files_have_names_that_nobody_can_guess() -> None:
    assert not offenders(lambda name, call: name in ("tempfile.mktemp", "os.tempnam", "os.tmpnam"))


RESOLVED_LATER = [
    "${oc.create:{_target_:builtins.open,file:FILE,mode:w}}",
    "${oc.env:HOME}",
    "a ${oc.env:HOME} within",
    "\\${oc.env:HOME}",
    "${..backbone}",
]


@pytest.mark.parametrize("text", RESOLVED_LATER)
def test_nothing_in_a_config_is_resolved_after_its_targets_were_checked(text: str, tmp_path: Path) -> None:
    """Hydra would resolve it while it builds, and build what comes out of it."""
    file, text = tmp_path / "written", text.replace("FILE", str(tmp_path / "written"))
    description = {
        "model": {"_target_": "atrous.DeepLabV3", "aspp_channels": 8},
        "backbone": {"_target_": "atrous.networks.resnet18", "_partial_": True, "width": 4},
        "output_stride": 16,
    }
    for place in ("model.aspp_channels", "model.aspp_rates", "backbone.width", "output_stride"):
        part, _, key = place.partition(".")
        node = {**description[part], key: [text] if key == "aspp_rates" else text} if key else text  # type: ignore[dict-item]
        with pytest.raises(ConfigError, match="interpolation is not resolved here"):
            build_network({**description, part: node}, num_classes=3)
    with pytest.raises(ConfigError, match="interpolation is not resolved here"):
        check_targets({"model": {text: 1}})
    assert not file.exists()


def test_a_file_of_weights_cannot_have_anything_resolved(tmp_path: Path) -> None:
    written = tmp_path / "written"
    config = {
        "model": {"_target_": "atrous.DeepLabV3", "aspp_channels": 8},
        "backbone": {"_target_": "atrous.networks.resnet18", "_partial_": True, "width": 4},
        "output_stride": 16,
    }
    assert isinstance(build_network(config, num_classes=2), atrous.DeepLabV3)
    spec = DatasetSpec(name="two", classes=("a", "b"), palette=((0, 0, 0), (9, 9, 9)), ignore_label=255)
    evil = {**config["model"], "aspp_channels": f"${{oc.create:{{_target_:builtins.open,file:{written},mode:w}}}}"}  # type: ignore[dict-item]
    text = Description(**{**config, "model": evil}, spec=spec, preprocessing="inception").to_json()  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="interpolation is not resolved here"):
        Description.from_json(text, source="file").build()
    assert not written.exists()


@pytest.mark.parametrize("name", ["Decoded", "Repeated", "SegmentationDataModule", "DatasetSpec", "Shapes.unverified"])
def test_of_data_only_what_reads_is_built_from_a_config(name: str, tmp_path: Path) -> None:
    """Decoded would write where the config of a run from anywhere says."""
    source = {"_target_": "atrous.data.Shapes", "split": "val", "length": 1, "size": 33}
    node = {"_target_": f"atrous.data.{name}", "dataset": source, "folder": str(tmp_path / "harm")}
    for each in (node, {**source, "root": node}):
        with pytest.raises(ConfigError, match=rf"_target_='atrous\.data\.{name}': only classes of atrous"):
            build(each, where="data.val")
    with pytest.raises(ConfigError, match=rf"data\.val\._target_='atrous\.data\.{name}': .* VOC2012, .*Folder"):
        spec_of_data(node)
    assert not (tmp_path / "harm").exists()


ESCAPES = [
    "atrous.studies.pool.subprocess.run",
    "atrous.studies.job_process.subprocess.Popen",
    "atrous.networks.segmenter.import_module",
    "atrous.files.write_text",
    "atrous.data.decoded_build.shutil.rmtree",
    "atrous.data.files.Path",
    "atrous.data.importlib.import_module",
    "atrous.weights.download.fetch",
]


@pytest.mark.parametrize("target", ESCAPES)
def test_a_target_leads_to_public_classes_and_not_to_what_our_files_import(target: str) -> None:
    with pytest.raises(ConfigError, match="only classes of atrous"):
        check_targets({"model": [{"_target_": target}]})
    with pytest.raises(ConfigError, match="only classes of atrous"):
        build({"_target_": target, "args": ["touch", "harm"]}, where="data.val")


def test_a_password_and_a_token_in_a_url_are_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    login = "me:pa55word"
    for url, said in (
        ("http://127.0.0.1:9/net.bin?token=t0ken#t0ken", "127.0.0.1:9/net.bin?*** cannot be fetched"),
        ("http://127.0.0.1:9/net.bin?token=t0ken and more", "127.0.0.1:9/net.bin?***': only ASCII without spaces"),
        ("http://127.0.0.1:9/?token=t0ken", "127.0.0.1:9/?***': http://, https://"),
        ("ftp://127.0.0.1:9/net.bin?token=t0ken", "127.0.0.1:9/net.bin?***': http://, https://"),
        ("http://[127.0.0.1:9/net.bin?token=t0ken", "127.0.0.1:9/net.bin' is not a URL"),
        (f"http://{login}@127.0.0.1:9/net.bin?token=t0ken", "127.0.0.1:9/net.bin?***': a URL with a login"),
        (f"file://{login}@127.0.0.1/net.bin", "127.0.0.1/net.bin': a URL with a login"),
        (f"http://{login}@[127.0.0.1:9/net.bin", "http://***: a URL with a login"),
        (f"http://{login}/@127.0.0.1:9/net.bin", "http://***: a URL with a login"),
        (f"http://{login}@127.0.0.\u2100/net.bin", "http://***: a URL with a login"),
    ):
        with pytest.raises((CheckpointError, ConfigError)) as caught:
            fetch(url, sha256=None, cache=tmp_path)
        shown = str(caught.value) + "".join(capsys.readouterr())
        assert said in shown
        assert "pa55word" not in shown
        assert "t0ken" not in shown


def test_secrets_that_lint_knows_are_told_apart_from_new_ones(tmp_path: Path) -> None:
    pytest.importorskip("detect_secrets")
    (tmp_path / "settings.py").write_text('key = "' + "AKIA" + "ZYXWVUTSRQPONMLK" + '"\n')
    baseline = SOURCE.parent / ".secrets.baseline"
    hook = [sys.executable, "-m", "detect_secrets.pre_commit_hook", "--no-verify", "--baseline", str(baseline)]
    done = subprocess.run([*hook, str(tmp_path / "settings.py")], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "AWS Access Key" in done.stdout
