"""The most that a convolution reaches on this machine: what achieved operations per second are a share of."""

import argparse
import json
import time

import torch
from benchmarks.figures import Figures
from benchmarks.turns import in_process

_CHANNELS, _SIDE, _BATCH = 256, 129, 2
_RUNS = {"cpu": 8, "cuda": 50}


def convolution_peak(dtype: torch.dtype, device: str = "cpu") -> float:
    """Operations per second of a 3x3 convolution, 256 channels, 2x129x129, channels last: the best of a few."""
    conv = torch.nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1).to(device, dtype)
    conv.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    batch = _BATCH if device == "cpu" else 16 * _BATCH  # a GPU is not filled by two images
    x = torch.randn(batch, _CHANNELS, _SIDE, _SIDE).to(device, dtype).contiguous(memory_format=torch.channels_last)
    torch.backends.cudnn.benchmark = True
    seconds = []
    with torch.inference_mode():
        for _ in range(_RUNS[device]):
            start = time.perf_counter()
            conv(x)
            if device == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
    return 2 * batch * _CHANNELS**2 * 9 * _SIDE**2 / min(seconds)


def measured_peaks(device: str) -> dict[str, float]:
    """The peak by precision (`32-true`, `bf16-mixed`), measured in a process of its own."""
    return {name: float(rate) for name, rate in in_process("benchmarks.peak", {"device": device}).items()}


def main() -> None:
    """Print the peaks as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", type=json.loads, default={"device": "cpu"}, metavar="JSON")
    device = parser.parse_args().measure["device"]
    peaks: Figures = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16}
    print(json.dumps({name: convolution_peak(dtype, device) for name, dtype in peaks.items()}))


if __name__ == "__main__":
    main()
