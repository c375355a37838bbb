"""Every private torch name the tracer leans on, in one place, so that a torch upgrade is read here."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn
from torch._dispatch.python import enable_python_dispatcher
from torch._dynamo.source import ConstantSource
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.fx.experimental.symbolic_shapes import DimDynamic, GuardOnDataDependentSymNode, ShapeEnv
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

__all__ = [
    "NEEDS_DATA",
    "FakeTensorMode",
    "TorchDispatchMode",
    "fake_mode",
    "faked",
    "is_fake",
    "mapped_tensors",
    "new_symbol",
    "replaced",
    "storage_key",
    "tracing_context",
    "with_real_tensors",
]
NEEDS_DATA = (DataDependentOutputException, DynamicOutputShapeException, GuardOnDataDependentSymNode)


def fake_mode() -> tuple[FakeTensorMode, ShapeEnv]:
    """A fake-tensor mode whose sizes may be symbols; size 0 and 1 are not specialised but guarded."""
    env = ShapeEnv(specialize_zero_one=False)
    return FakeTensorMode(shape_env=env, allow_non_fake_inputs=True), env


def is_fake(tensor: torch.Tensor) -> bool:
    """Whether the tensor has no data."""
    return isinstance(tensor, FakeTensor)


def with_real_tensors() -> AbstractContextManager[Any]:
    """Inside a tracing context: tensors made here have data."""
    return unset_fake_temporarily()


def mapped_tensors(change: Callable[[torch.Tensor], torch.Tensor], value: Any) -> Any:
    """The nested arguments with every tensor changed."""
    return tree_map_only(torch.Tensor, change, value)


def faked(module: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """A copy of a built module, on whatever device it is, with fake weights on the CPU; ties are kept.

    Whole-number buffers keep their data: branches and counts may depend on it.
    """
    known: dict[int, Any] = {}
    floating = (b for b in module.buffers() if b.is_floating_point() or b.is_meta)
    for tensor in (*module.parameters(), *floating):
        with mode:
            twin = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
        if isinstance(tensor, nn.Parameter):
            twin = nn.Parameter(twin, requires_grad=tensor.requires_grad)
        known[id(tensor)] = twin
    return copy.deepcopy(module, known)


def new_symbol(env: ShapeEnv, name: str, hint: int) -> tuple[torch.SymInt, Any]:
    """A free size with the value `hint` for decisions; returns the SymInt and its sympy symbol."""
    source = ConstantSource(name)
    expr = env.create_symbol(hint, source=source, dynamic_dim=DimDynamic.DYNAMIC, constraint_dim=None)
    size = env.create_symintnode(expr, hint=hint, source=source)
    return size, expr  # type: ignore[return-value]


def storage_key(tensor: torch.Tensor) -> tuple[int, torch.UntypedStorage]:
    """An id that all views of one allocation share while it lives, and the storage object itself."""
    storage = tensor.untyped_storage()
    return storage._cdata, storage


@contextmanager
def tracing_context(mode: FakeTensorMode) -> Iterator[None]:
    """Fake tensors, the python dispatcher (without it some models freeze a size silently), no fast path.

    The CPU convolution back-ends are off: choosing one would guard sizes such as batch >= 16.
    """
    fast_path, onednn = torch.backends.mha.get_fastpath_enabled(), torch._C._get_mkldnn_enabled()
    (nnpack,) = torch.backends.nnpack.set_flags(False)
    torch.backends.mha.set_fastpath_enabled(False)
    torch._C._set_mkldnn_enabled(False)
    logger = logging.getLogger("torch._subclasses.fake_tensor")  # an op that fails is told in our own line
    silent, logger.disabled = logger.disabled, True
    try:
        with mode, enable_python_dispatcher():
            yield
    finally:
        logger.disabled = silent
        torch.backends.mha.set_fastpath_enabled(fast_path)
        torch._C._set_mkldnn_enabled(onednn)
        torch.backends.nnpack.set_flags(nnpack)


@contextmanager
def replaced(owner: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """`owner.name` stands for `function` while the block runs."""
    original = getattr(owner, name)
    setattr(owner, name, function)
    try:
        yield
    finally:
        setattr(owner, name, original)
