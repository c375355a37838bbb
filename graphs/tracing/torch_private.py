"""Every private torch name the tracer leans on, in one place, so that a torch upgrade is read here."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn
from torch._C import DispatchKey
from torch._decomp.decompositions import lstm_impl, upsample_compute_output_size
from torch._dispatch.python import enable_python_dispatcher
from torch._dynamo.source import ConstantSource
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.fx.experimental.symbolic_shapes import (
    DimDynamic,
    GuardOnDataDependentSymNode,
    ShapeEnv,
    statically_known_true,
)
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map_only, tree_unflatten

__all__ = [
    "NEEDS_DATA",
    "FakeTensorMode",
    "KnownRanges",
    "TorchDispatchMode",
    "constant_of",
    "dispatched",
    "fake_mode",
    "faked",
    "is_fake",
    "known_equal",
    "lstm_impl",
    "mapped_tensors",
    "new_symbol",
    "next_sequence",
    "running_backward",
    "storage_key",
    "tensors_in",
    "tracing_context",
    "twin",
    "unflattened",
    "unknown_sizes",
    "upsample_compute_output_size",
    "with_real_tensors",
    "without_initial_values",
    "without_modes",
    "without_weights",
]
_FOLLOWED = 4096  # elements
NEEDS_DATA = (DataDependentOutputException, DynamicOutputShapeException, GuardOnDataDependentSymNode)


def fake_mode() -> tuple[FakeTensorMode, ShapeEnv]:
    """A fake-tensor mode whose sizes may be symbols; size 0 and 1 are not specialised but guarded."""
    env = ShapeEnv(specialize_zero_one=False)
    return FakeTensorMode(shape_env=env, allow_non_fake_inputs=True), env


def is_fake(tensor: torch.Tensor) -> bool:
    """Whether the tensor has no data."""
    return isinstance(tensor, FakeTensor)


def constant_of(tensor: torch.Tensor) -> torch.Tensor | None:
    """The data of a fake tensor where it is followed."""
    return tensor.constant if isinstance(tensor, FakeTensor) else None


def twin(mode: FakeTensorMode, tensor: torch.Tensor) -> torch.Tensor:
    """A fake tensor for one with data, which are followed while they are few."""
    with unset_fake_temporarily():
        if mode.may_turn_const(tensor):
            data = tensor.detach().clone()
            return mode.fake_tensor_converter.from_real_tensor(mode, data, make_constant=True)
        return mode.from_tensor(tensor, static_shapes=True)


class KnownRanges(TorchDispatchMode):
    """Small ranges of plain numbers hold them, as the drop rates that blocks are built with."""

    def __init__(self, mode: FakeTensorMode) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._mode = mode

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.overloadpacket not in (torch.ops.aten.linspace, torch.ops.aten.arange):
            return func(*args, **kwargs)
        if not all(isinstance(value, int | float) for value in args):
            return func(*args, **kwargs)
        with unset_fake_temporarily():
            made = func(*args, **kwargs)
        return twin(self._mode, made)


def with_real_tensors() -> AbstractContextManager[Any]:
    """Inside a tracing context: tensors made here have data."""
    return unset_fake_temporarily()


def without_modes() -> AbstractContextManager[Any]:
    """Inside any modes: tensors have data and nothing is recorded."""
    return _disable_current_modes()


@contextmanager
def without_weights() -> Iterator[None]:
    """Parameters of modules built in the block go to the meta device as soon as they are registered."""
    register = nn.Module.register_parameter

    def emptied(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None and not parameter.is_meta:
            parameter = nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)
        register(module, name, parameter)

    nn.Module.register_parameter = emptied  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


@contextmanager
def without_initial_values() -> Iterator[None]:
    """Modules built in the block leave their weights as they are: fake ones hold nothing.

    A conversion puts new weights in their place, tied ones tied as before: torch would swap what two tensors
    hold, which it refuses for many fake ones.
    """
    names = [name for name in vars(nn.init) if name.endswith("_") and not name.startswith("_")]
    before = {name: getattr(nn.init, name) for name in names}
    for name in names:
        setattr(nn.init, name, lambda tensor, *_, **__: tensor)
    apply, converted = nn.Module._apply, dict[int, tuple[nn.Parameter, nn.Parameter]]()

    def applied(module: nn.Module, change: Callable[[torch.Tensor], torch.Tensor], *_: Any) -> nn.Module:
        for child in module.children():
            applied(child, change)
        for key, parameter in module._parameters.items():
            if parameter is None:
                continue
            with torch.no_grad():
                data = change(parameter)
            if data is not parameter:
                new = nn.Parameter(data, requires_grad=parameter.requires_grad)
                module._parameters[key] = converted.setdefault(id(parameter), (parameter, new))[1]
        for key, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[key] = change(buffer)
        return module

    nn.Module._apply = applied  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module._apply = apply  # type: ignore[method-assign]
        for name, function in before.items():
            setattr(nn.init, name, function)


def unflattened(leaves: list[Any], spec: Any) -> Any:
    """Arguments put together as an exported program takes them."""
    return tree_unflatten(leaves, spec)


def mapped_tensors(change: Callable[[torch.Tensor], torch.Tensor], value: Any) -> Any:
    """The nested arguments with every tensor changed."""
    return tree_map_only(torch.Tensor, change, value)


def tensors_in(value: Any) -> list[torch.Tensor]:
    """The tensors among nested arguments."""
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]


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


def known_equal(one: int | torch.SymInt, other: int | torch.SymInt) -> bool:
    """Whether two sizes are the same at every value; no condition is left."""
    return statically_known_true(one == other)


def unknown_sizes(env: ShapeEnv) -> int:
    """How many sizes so far depend on data."""
    return env.unbacked_symint_counter


def storage_key(tensor: torch.Tensor) -> tuple[int, torch.UntypedStorage]:
    """An id that all views of one allocation share while it lives, and the storage object itself."""
    storage = tensor.untyped_storage()
    return storage._cdata, storage


def next_sequence() -> int:
    """The sequence number that the next differentiable op of this thread gets."""
    number: int = torch._C._autograd._get_sequence_nr()
    return number


def running_backward() -> tuple[int, torch.Tensor | None] | None:
    """Sequence number of the autograd node that runs now, and the parameter it accumulates into, if any."""
    node = torch._C._current_autograd_node()
    if node is None:
        return None
    return node._sequence_nr(), getattr(node, "variable", None)


@contextmanager
def tracing_context(mode: FakeTensorMode) -> Iterator[None]:
    """Fake tensors, the python dispatcher (without it some models freeze a size silently), no fast path.

    The CPU convolution back-ends are off: choosing one would guard sizes such as batch >= 16. What small
    tensors hold is followed where it is known, so that a grid of patches can decide counts.
    """
    followed, fake_tensor.CONSTANT_NUMEL_LIMIT = fake_tensor.CONSTANT_NUMEL_LIMIT, _FOLLOWED
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
        fake_tensor.CONSTANT_NUMEL_LIMIT = followed
        torch.backends.mha.set_fastpath_enabled(fast_path)
        torch._C._set_mkldnn_enabled(onednn)
        torch.backends.nnpack.set_flags(nnpack)


@contextmanager
def dispatched(operator: str, function: Callable[..., Any]) -> Iterator[None]:
    """Calls of an aten operator (`name` or `name.overload`) on the CPU go to `function`."""
    packet, _, name = operator.partition(".")
    overload = getattr(getattr(torch.ops.aten, packet), name or "default")
    keys = (DispatchKey.AutogradCPU, DispatchKey.CPU)
    before = {key: overload.py_kernels.pop(key, None) for key in keys}
    overload.py_kernels.update(dict.fromkeys(keys, function))
    overload._dispatch_cache.clear()
    try:
        yield
    finally:
        for key, kernel in before.items():
            del overload.py_kernels[key]
            if kernel is not None:
                overload.py_kernels[key] = kernel
        overload._dispatch_cache.clear()
