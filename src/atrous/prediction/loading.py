"""`atrous.load`: a predictor from any checkpoint."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

from atrous.errors import CheckpointError, ConfigError, StoreError
from atrous.networks.segmenter import Segmenter
from atrous.prediction.description import Description
from atrous.prediction.label_spaces import spec_of_data
from atrous.prediction.predictor import Predictor
from atrous.prediction.released import load_release, load_tensorflow, load_torchvision
from atrous.prediction.safetensors_file import read_safetensors
from atrous.run_store import RunFolder
from atrous.weights.matching import load_by_name
from atrous.weights.own import tensors_of_checkpoint
from atrous.weights.torch_files import TORCH_FILES
from atrous.weights.zoo import is_file

_EXPORTED = MappingProxyType(  # and what runs them
    {
        ".pt2": "torch.export.load(path).module()(images)",
        ".onnx": "onnxruntime.InferenceSession(path).run(['logits'], {'image': images})",
    }
)
CHECKPOINTS = ("last", "best")


def load(
    source: str | Path,
    *,
    checkpoint: str = "last",
    preset: str | None = None,
    precision: str = "auto",
    device: str = "auto",
) -> Predictor:
    """Return a predictor.

    Args:
        source: The folder of a run of atrous-train or a .ckpt file in it, a .safetensors file of atrous-export, a .pth
            file of torchvision's DeepLabv3, an official TensorFlow checkpoint (its prefix or .tar.gz), or a preset's
            name such as "xception65_coco_voc_trainaug", which is downloaded once.
        checkpoint: Of a run's folder: "last" (the paper's way) or "best" (chosen on val).
        preset: The preset whose network a file of weights is for, where the file does not tell.
        precision: "float32", "bf16", or "auto": bf16 where it is in hardware.
        device: "cpu", "cuda", or "auto".

    Raises:
        ConfigError: A name or value that cannot be, with those that can.
        StoreError: No such run, or one that is not finished; says how far it got.
        CheckpointError: A file that cannot be read, or does not fit.
    """
    network, description = load_network(source, checkpoint=checkpoint, preset=preset)
    return Predictor(network=network, description=description, precision=precision, device=device)


def load_network(
    source: str | Path, *, checkpoint: str = "last", preset: str | None = None
) -> tuple[Segmenter, Description]:
    """Return the network, in evaluation mode, and its description; arguments and errors as for `load`."""
    if checkpoint not in CHECKPOINTS:
        raise ConfigError(f"checkpoint={checkpoint!r}: {' or '.join(CHECKPOINTS)}")
    network, description = _load(str(source), checkpoint, preset)
    return network.eval(), description


def _load(source: str, checkpoint: str, preset: str | None) -> tuple[Segmenter, Description]:
    path = Path(source)
    if path.is_file() and path.suffix in _EXPORTED:
        raise CheckpointError(
            f"{path} is a network for other programs (atrous-export format={path.suffix[1:]}): "
            f"{_EXPORTED[path.suffix]} gives the logits of normalised images [N, 3, H, W]. What it was exported from, "
            "or a .safetensors file (format=safetensors), can be read here"
        )
    if preset is not None:
        return load_release(preset, source=source)
    if path.is_dir() or (path.is_file() and path.suffix == ".ckpt" and not Path(f"{source}.index").is_file()):
        return _load_run(*_in_run(path, checkpoint))
    if path.is_file() and path.suffix == ".safetensors":
        return read_safetensors(path)
    if path.is_file() and path.suffix in TORCH_FILES:
        return load_torchvision(path)
    if is_file(source):
        return load_tensorflow(source)
    if "/" in source or path.suffix:
        raise CheckpointError(
            f"{source} is not there; give the folder of a run, a .safetensors or .pth file, a TensorFlow checkpoint or "
            "the name of released weights"
        )
    try:
        return load_release(source)
    except ConfigError as error:
        raise ConfigError(f"{source!r} is nothing on this machine, and {error}") from None


def _in_run(path: Path, checkpoint: str) -> tuple[RunFolder, Path]:
    """Return the folder of a run and its checkpoint, from either of them."""
    if path.is_dir():
        folder = RunFolder(path)
        return folder, folder.last_checkpoint if checkpoint == "last" else folder.best_checkpoint
    folder = RunFolder(path.absolute().parent.parent)
    if not folder.config_file.is_file():
        raise CheckpointError(
            f"{path} does not tell its network: {folder.config_file}, which does for the checkpoint of a run, is not "
            f"there, nor is {path.name}.index beside it, as for one of TensorFlow; give the folder of a run, or the "
            "checkpoint where its training left it"
        )
    return folder, path


def _load_run(folder: RunFolder, path: Path) -> tuple[Segmenter, Description]:
    if not folder.config_file.is_file():
        raise StoreError(f"{folder.path} is not the folder of a run: it has no config.yaml")
    if folder.is_done and not path.is_file():
        advice = "put it back, or move the folder away to train it anew"
        if path == folder.best_checkpoint:
            advice = "it is kept when a training validates; checkpoint=last has the weights of the last step"
        raise StoreError(f"{folder.path} is done, without a checkpoint {path.name}: {advice}")
    if not folder.is_done:
        status, command = folder.status(), folder.facts().get("command", "atrous-train ...")
        where = f"at step {status.get('step', 0)} of {status.get('max_steps', '?')}"
        has = "with" if path.is_file() else "without"
        raise StoreError(
            f"{folder.path} is {status['state']} {where}, {has} a checkpoint {path.name}: finish it first with its "
            f"command, {command}"
        )
    description = _description(folder)
    network = description.build()
    weights = tensors_of_checkpoint(path)
    found, spec = weights.get("classifier.bias"), description.spec
    if found is not None and found.ndim == 1 and len(found) != spec.num_classes:
        raise CheckpointError(f"{path} has {len(found)} classes, but {spec.name!r} names {spec.num_classes} of them")
    load_by_name(network, targets=network.state_dict(keep_vars=True), values=weights, source=str(path))
    return network, description


def _description(folder: RunFolder) -> Description:
    config = folder.config()
    try:
        size = config["data"]["evaluation_size"]
        return Description(
            model=config["model"],
            backbone=config["backbone"],
            output_stride=config["output_stride"],
            spec=spec_of_data(config["data"]["val"]),
            preprocessing=config["recipe"]["preprocessing"],
            padded_size=None if size is None else (size[0], size[1]),
        )
    except (KeyError, IndexError, TypeError) as error:
        raise StoreError(f"{folder.config_file}: not the config of a run ({type(error).__name__}: {error})") from None
