"""Kernels in C++: without a compiler PyTorch's stay, without memory the error is one that a training knows."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from atrous.compiling import cpp_compiler
from atrous.networks import fused_batch_norm
from atrous.networks.cpu_kernels import Kernels
from atrous.training.memory import is_out_of_memory

pytestmark = pytest.mark.skipif(cpp_compiler() is None, reason="there is no C++ compiler")

# Maps of 512 MiB that nobody touches: sums of their parts are 64 MiB and more, of which 32 are left.
_SCRIPT = """
import resource
from pathlib import Path
import torch
from atrous.networks import depthwise_gradients, fused_batch_norm

assert all(kernels.use() for kernels in (depthwise_gradients.kernels, fused_batch_norm.kernels))
pixels, channels = 1 << 15, 1 << 12
x, of_channel, kernel = torch.empty(pixels, channels), [torch.empty(channels)] * 9, torch.empty(channels, 9)
sums = torch.empty(2, channels, dtype=torch.float64)
calls = (
    (fused_batch_norm, "moments", (x, False, pixels, channels, sums)),
    (fused_batch_norm, "sums", (x, x, False, pixels, channels, *of_channel[:3], True, sums)),
    (depthwise_gradients, "", (x, x, x, 1, pixels, 1, channels, kernel, *of_channel[:5], True, x, kernel)),
)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (32 << 20), -1))
for module, name, arguments in calls:
    try:
        module.kernels.call(f"atrous_batch_norm_{name}" if name else "atrous_depthwise_gradients", *arguments)
    except MemoryError as error:
        print(error)
"""


@pytest.mark.exhaustive
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_without_memory_they_raise_and_the_process_goes_on() -> None:
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True, timeout=100)
    assert done.stdout.splitlines() == [
        "not enough memory for atrous_batch_norm_moments",
        "not enough memory for atrous_batch_norm_sums",
        "not enough memory for atrous_depthwise_gradients",
    ]
    assert is_out_of_memory(MemoryError())


def test_without_a_compiler_pytorchs_kernels_stay_and_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CXX", "none")
    with caplog.at_level(logging.INFO):
        kernels = Kernels(Path(fused_batch_norm.__file__).with_suffix(".cpp"))
        assert kernels.use() is False
    assert "trainer.cpu_kernels: PyTorch's own" in caplog.text
    assert not kernels.in_use
