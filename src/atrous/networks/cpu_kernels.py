"""Kernels in C++ beside PyTorch's, for trainings on a CPU: compiled once per machine, called with tensors."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from atrous.compiling import loaded

_FLAGS = ("-O3", "-fopenmp", "-ffp-contract=fast")
_WIDE = {  # by what PyTorch takes this processor for; AVX-512's are faster with bfloat16
    "AVX2": ("-mavx2", "-mfma"),
    "AVX512": ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"),
}
_INSTEAD = "trainer.cpu_kernels: PyTorch's own"


class Kernels:
    """A file of C++ whose functions this process calls once it is loaded.

    Attributes:
        in_use: Whether trainings of this process take them.
    """

    def __init__(self, source: Path) -> None:
        self.in_use = False
        self._source = source
        self._library: ctypes.CDLL | None = None

    def use(self, enabled: bool = True) -> bool:
        """Have trainings of this process take them from now on, or no longer.

        Args:
            enabled: Whether they are taken.

        Returns:
            Whether they are; PyTorch's are where there is no C++ compiler with OpenMP, which is logged.
        """
        if enabled and self._library is None:
            # A cache may be shared by machines: the code is for what PyTorch, too, takes this processor for.
            wide = _WIDE.get(torch.backends.cpu.get_cpu_capability(), ())
            self._library = loaded(self._source, flags=(*_FLAGS, *wide), made_with=(), wanted_by=_INSTEAD)
        self.in_use = enabled and self._library is not None
        return self.in_use

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function with tensors (their data; None for no tensor), whole numbers, floats (double) and bools.

        Raises:
            MemoryError: There is no memory for what it computes in between.
        """
        function = getattr(self._library, name)
        function.restype = ctypes.c_bool
        if not function(*map(_as_c, arguments)):
            raise MemoryError(f"not enough memory for {name}")


def is_readable(tensor: Tensor | None) -> bool:
    """Whether a function can read a parameter or a buffer where it lies: in float32 on a CPU, without gaps."""
    return (
        tensor is not None
        and type(tensor) in (Tensor, nn.Parameter)
        and tensor.device.type == "cpu"
        and tensor.dtype == torch.float32
        and tensor.is_contiguous()
    )


def _as_c(argument: Any) -> Any:
    if argument is None or isinstance(argument, Tensor):
        return ctypes.c_void_p(None if argument is None else argument.data_ptr())
    if isinstance(argument, bool):
        return ctypes.c_bool(argument)
    return ctypes.c_double(argument) if isinstance(argument, float) else ctypes.c_int64(argument)
