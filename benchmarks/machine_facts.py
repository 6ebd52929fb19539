"""What a reader of figures has to know of the machine that gave them."""

import datetime
import os
import platform
import subprocess
from pathlib import Path

from benchmarks.peers import versions
from benchmarks.turns import ROOT

_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16", "asimd", "sve")


def origin(command: str) -> str:
    """When, at which commit and with which command something was measured, as a part of a sentence in Markdown."""
    return f"on {_today()} at {_commit()} with `{command}`"


def machine_facts() -> dict[str, str]:
    """Cores, CPU and GPU, and versions, by name."""
    import torch

    flags = set(_cpuinfo("flags").split() or _cpuinfo("Features").split())
    facts = {
        "cores": str(len(os.sched_getaffinity(0))),
        "CPU": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "CPU features": ", ".join(name for name in _FEATURES if name in flags) or "none of those that matter",
        "torch": f"{torch.__version__}, {torch.get_num_threads()} threads",
        **versions(),
        "Python": platform.python_version(),
    }
    if torch.cuda.is_available():
        facts["GPU"] = torch.cuda.get_device_name()
    return facts


def machine_in_brief() -> str:
    """Cores, CPU and its features, and the GPU, as a part of a sentence."""
    facts = machine_facts()
    gpu = f" with {facts['GPU']}" if "GPU" in facts else ""
    return f"{facts['cores']} cores of {facts['CPU']} ({facts['CPU features']}){gpu}"


def _today() -> str:
    return datetime.datetime.now(tz=datetime.timezone.utc).strftime("%Y-%m-%d")


def _cpuinfo(key: str) -> str:
    """A value of the first processor; empty where there is none."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == key), "")


def _commit() -> str:
    """The commit, `-dirty` where anything has changed since but the page that benchmarks write."""
    commit = _git("rev-parse", "--short", "HEAD")
    changed = _git("status", "--porcelain", "--", ".", ":!docs/benchmarks")
    return f"{commit}-dirty" if commit and changed else commit or "unknown"


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()
