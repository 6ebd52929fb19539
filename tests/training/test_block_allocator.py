"""PyTorch's memory in blocks that fit where one of their size was, in processes of their own: it is for good."""

from __future__ import annotations

import logging
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from atrous.compiling import cpp_compiler
from atrous.training import block_allocator

pytestmark = pytest.mark.skipif(
    not block_allocator._takes_from_glibc() or cpp_compiler() is None,
    reason="it is for glibc's allocator on x86-64, and needs a C++ compiler",
)

_BEGIN = """
import sys, torch
from atrous.training import machine
torch.set_num_threads(1)
"""
# Fifty maps of 1 MiB are kept; what is made of each is read by the next and goes, as batch norm's results do. The small
# blocks are those of a graph's nodes: they lie in what glibc gives back of a block that it aligned.
_LAYERS = (
    _BEGIN
    + """
import ctypes, resource
from pathlib import Path
def resident_mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
machine.use_allocator("auto", "none")
malloc = ctypes.CDLL(None).malloc
def small(count):
    for _ in range(count):
        malloc(40)
def layers():
    kept, normalised = [], torch.ones(1 << 18)
    for _ in range(50):
        kept.append(normalised + 1)
        small(4)
        normalised = kept[-1] * 0.5
    return kept
small(1000)  # what the heap had left of them
before = resident_mib()
kept = layers()
print(resident_mib() - before)
"""
)
# Twenty blocks of 8 MiB are kept, with as many holes between them, into which blocks of 12 MiB do not fit.
_HOLES = (
    _BEGIN
    + """
import threading
from atrous.process_memory import peak_mib
machine.use_allocator("auto", sys.argv[1])
blocks = [torch.full((1 << 21,), float(number)) for number in range(40)]
del blocks[::2]
before, larger = peak_mib(), []
def take():
    larger.extend(torch.ones(3 << 20) for _ in range(5))
threads = [threading.Thread(target=take) for _ in range(2)]
for thread in threads:
    thread.start()
    thread.join()
print(all((block == number).all() for block, number in zip(blocks, range(1, 40, 2))), len(larger))
print(peak_mib() - before)
"""
)
# What oneDNN does: take memory from PyTorch's allocator of the moment, and give it back to that of a later one.
_TAKER = """
#include <c10/core/Allocator.h>
static c10::Allocator* now() { return c10::GetAllocator(c10::DeviceType::CPU); }
extern "C" void* take(size_t bytes) { return now()->raw_allocate(bytes); }
extern "C" void give(void* block) { now()->raw_deallocate(block); }
"""
_BEFORE_AND_AFTER = (
    _BEGIN
    + """
import ctypes
from pathlib import Path
from atrous.compiling import loaded
from atrous.training import block_allocator
library = loaded(Path(sys.argv[1]), flags=block_allocator._flags(), made_with=[], wanted_by="this test")
library.take.restype, library.give.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
sizes = [1, 100, 5000, 1 << 20, 40 << 20]
before = [library.take(size) for size in sizes]
machine.use_allocator("auto", "none")
after = [library.take(size) for size in sizes]
for block, size in zip(before + after, sizes + sizes):
    ctypes.memset(block, 7, size)
    library.give(block)
print("given back", torch.ones(1 << 20).sum().item())
"""
)
_ALIGNED = (
    _BEGIN
    + """
before = torch.ones(1000)
conv = torch.nn.Conv2d(16, 16, 3)
conv(torch.ones(1, 16, 40, 40)).sum().backward()  # oneDNN has taken memory by itself
machine.use_allocator("auto", "none")
sizes = [1, 2, 3, 100, 1000, 4097, 1 << 20, 3 << 22]
tensors = [torch.empty(size, dtype=torch.uint8) for size in sizes]
print({tensor.data_ptr() % 64 for tensor in tensors}, torch.empty(0).numel())
before.resize_(5000).fill_(1.0)
grown = torch.arange(5.0)
grown.resize_(100_000)
print(grown[:5].tolist(), before.sum().item())
for _ in range(20):
    x = torch.ones(1, 16, 40, 40, requires_grad=True)
    conv(x).sum().backward()
print(torch.equal(x.grad, torch.autograd.functional.vjp(conv, x, torch.ones(1, 16, 38, 38))[1]))
try:
    torch.empty(1 << 60)
except RuntimeError as error:
    from atrous.training.memory import is_out_of_memory
    print(is_out_of_memory(error))
with torch.profiler.profile(profile_memory=True) as profile:
    torch.empty(1 << 20)
print(max(event.cpu_memory_usage for event in profile.events()))
"""
)


def _run(program: str, *arguments: str, cache: Path) -> str:
    environment = {**os.environ, "ATROUS_CACHE": str(cache)}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the compiled file after its first use."""
    return tmp_path_factory.mktemp("cache")


def test_what_one_layer_frees_the_next_takes(cache: Path) -> None:
    kept_mib = 50
    # As PyTorch asks for it, it is about 100 MiB; with some heaps it fits by luck, so that this is not compared.
    assert float(_run(_LAYERS, cache=cache)) < 1.5 * kept_mib


@pytest.mark.parametrize(("recomputes", "most_mib"), [("units", 40), ("maps", 130)])
def test_where_memory_is_dear_holes_are_handed_back_before_the_process_takes_more(
    recomputes: str, most_mib: int, cache: Path
) -> None:
    kept, grown_mib = _run(_HOLES, recomputes, cache=cache).splitlines()
    assert kept == "True 10"
    assert most_mib - 40 <= int(grown_mib) <= most_mib


def test_tensors_lie_at_multiples_of_64_bytes_grow_and_fail_as_pytorchs_own(cache: Path) -> None:
    aligned, grown, gradient, out_of_memory, reported = _run(_ALIGNED, cache=cache).splitlines()
    assert aligned == "{0} 0"
    assert grown == "[0.0, 1.0, 2.0, 3.0, 4.0] 5000.0"
    assert (gradient, out_of_memory) == ("True", "True")
    assert int(reported) >= 4 << 20


@pytest.mark.exhaustive
def test_blocks_that_were_taken_before_can_be_given_back_after(tmp_path: Path) -> None:
    source = tmp_path / "taker.cpp"
    source.write_text(_TAKER)
    assert _run(_BEFORE_AND_AFTER, str(source), cache=tmp_path) == "given back 1048576.0\n"


def test_without_a_compiler_pytorchs_own_stays(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CXX", "none")
    with caplog.at_level(logging.INFO):
        assert block_allocator.use() is False
    assert "trainer.cpu_allocator: PyTorch's own" in caplog.text


def test_memory_of_another_allocator_than_glibcs_stays_with_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with caplog.at_level(logging.INFO):
        assert block_allocator.use() is False
    assert "another allocator than glibc's" in caplog.text
