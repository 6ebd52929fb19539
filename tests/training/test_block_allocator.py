"""PyTorch's memory in blocks that fit where one of their size was, in processes of their own: it is for good."""

from __future__ import annotations

import logging
import os
import platform
import resource
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
_OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")
_IS_COUNTED = _OVERCOMMIT.is_file() and _OVERCOMMIT.read_text().strip() == "2"
_HAS_RANGE = not _IS_COUNTED and resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY

_BEGIN = """
import sys, torch
from atrous.training import machine
torch.set_num_threads(1)
"""
# A hundred maps of half a MiB are kept; what is made of each is read by the next and goes, as batch norm's results do.
# The small blocks are those of a graph's nodes: they lie in what glibc gives back of a block that it aligned.
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
    kept, normalised = [], torch.ones(1 << 17)
    for _ in range(100):
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
from atrous.process_memory import peak_mib
machine.use_allocator("auto", "none")
blocks = [torch.full((1 << 21,), float(number)) for number in range(40)]
del blocks[::2]
before = peak_mib()
larger = [torch.ones(3 << 20) for _ in range(10)]
print(all((block == number).all() for block, number in zip(blocks, range(1, 40, 2))), peak_mib() - before)
"""
)
# Two threads take and give back blocks of 256 KiB to 40 MiB at random.
_CROWD = (
    _BEGIN
    + """
import random, resource, threading
if sys.argv[1] == "no addresses":
    resource.setrlimit(resource.RLIMIT_AS, (64 << 30, 64 << 30))
machine.use_allocator("auto", "none")
wrong = []
def work(seed):
    draw, kept = random.Random(seed), {}
    for step in range(400):
        if kept and draw.random() < 0.55:
            number = draw.choice(sorted(kept))
            block = kept.pop(number)
            if block.data_ptr() % 64 or not (block == number).all():
                wrong.append(number)
        elif len(kept) < 12:
            size = draw.choice([1 << 16, 1 << 18, (1 << 18) + 1, 3 << 18, 10 << 18, 40 << 18])
            kept[step] = torch.full((size,), step, dtype=torch.int32)
    for number, block in kept.items():
        if not (block == number).all():
            wrong.append(number)
threads = [threading.Thread(target=work, args=(seed,)) for seed in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
from atrous.training import block_allocator
print(wrong, block_allocator.hands_holes_back())
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
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment, timeout=120).stdout


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the compiled file after its first use."""
    return tmp_path_factory.mktemp("cache")


def test_what_one_layer_frees_the_next_takes(cache: Path) -> None:
    kept_mib = 50
    # As PyTorch asks for it, it is about 100 MiB; with some heaps it fits by luck, so that this is not compared.
    assert float(_run(_LAYERS, cache=cache)) < 1.5 * kept_mib


@pytest.mark.skipif(not _HAS_RANGE, reason="addresses are limited or counted on this machine")
def test_holes_are_handed_back_before_the_process_takes_more(cache: Path) -> None:
    kept, grown_mib = _run(_HOLES, cache=cache).split()
    assert kept == "True"
    assert int(grown_mib) < 40  # of 120: where holes keep their pages, as with glibc's malloc, it is 123


@pytest.mark.parametrize("where", ["a range", "no addresses"])  # no addresses: malloc takes large blocks, too
def test_blocks_of_all_sizes_keep_what_is_written_in_them(where: str, cache: Path) -> None:
    assert _run(_CROWD, where, cache=cache) == f"[] {where == 'a range' and _HAS_RANGE}\n"


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
    monkeypatch.setattr(block_allocator, "_library", None)  # another test of this process may have it
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
