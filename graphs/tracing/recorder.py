"""Records every torch op of a running module as an `OpNode`, with storages, lifetimes and its module."""

from __future__ import annotations

import time
import weakref
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from graphs.errors import GraphError
from graphs.expressions import Expr, evaluate
from graphs.ir import (
    ACTIVATION,
    BACKWARD,
    BUFFER,
    FORWARD,
    GRADIENT,
    INPUT,
    KV,
    WEIGHT,
    Operator,
    OpNode,
    Storage,
    TensorSpec,
)
from graphs.tracing.masks import Masks
from graphs.tracing.sizes import SizeReader
from graphs.tracing.torch_private import (
    FakeTensorMode,
    TorchDispatchMode,
    is_fake,
    mapped_tensors,
    next_sequence,
    running_backward,
    storage_key,
    twin,
    with_real_tensors,
)
from graphs.work import Call, Canonical, Operand, aten_rule, is_free
from graphs.work.custom import CustomRule, custom

DTYPE_NAMES = {
    torch.float64: "fp64", torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16",
    torch.int64: "int64", torch.int32: "int32", torch.int16: "int16", torch.int8: "int8",
    torch.uint64: "uint64", torch.uint32: "uint32", torch.uint16: "uint16", torch.uint8: "uint8",
    torch.bool: "bool", torch.complex32: "complex32", torch.complex64: "complex64",
    torch.complex128: "complex128", torch.float8_e4m3fn: "fp8", torch.float8_e5m2: "fp8",
}  # fmt: skip
TENSOR = "tensor"  # stands for a tensor among the plain arguments of a call


def dtype_name(tensor: torch.Tensor) -> str:
    """Our name of the tensor's dtype."""
    name = DTYPE_NAMES.get(tensor.dtype)
    if name is None:
        raise GraphError(f"dtype {tensor.dtype} is not known; known are {', '.join(map(str, DTYPE_NAMES))}")
    return name


class TraceBudget(Exception):
    """The symbolic trace took more processor time than its budget; wall time would depend on the machine."""


class _Live:
    """A storage while the trace runs; `aliases` counts the torch storages that stand for it."""

    __slots__ = ("aliases", "allocated_at", "dtype", "elements", "freed_at", "last_used_at", "name", "role")

    def __init__(self, elements: Expr, dtype: str, role: str, at: int) -> None:
        self.elements, self.dtype, self.role, self.name = elements, dtype, role, ""
        self.allocated_at, self.last_used_at, self.freed_at, self.aliases = at, at, -2, 0

    def closed(self, end: int) -> Storage:
        freed = end if self.freed_at == -2 else self.freed_at
        return Storage(
            self.elements, self.dtype, self.role, self.allocated_at, self.last_used_at, freed, self.name
        )


class Recorder(TorchDispatchMode):
    """A dispatch mode that turns ops into nodes; `paused` while a composite operator's inside runs."""

    def __init__(
        self,
        reader: SizeReader,
        mode: FakeTensorMode,
        budget_s: float | None = None,
        rules: Mapping[str, CustomRule] | None = None,
        expected: Mapping[str, Expr] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.reader = reader
        self._rules = rules or {}
        self._expected = expected or {}
        self.masks = Masks(reader)
        self.nodes: list[OpNode] = []
        self.storages: list[_Live] = []
        self.modules: list[str] = [""]
        self.phase = FORWARD
        self.paused = 0
        self._deadline = None if budget_s is None else time.thread_time() + budget_s
        self._module_stack = [0]
        # (sequence number, module): from which differentiable op on which module runs
        self._entries: list[tuple[int, int]] = [(0, 0)]
        self._owner: dict[int, int] = {}
        self._storage_of: dict[int, int] = {}
        self._watch: dict[int, weakref.ref[Any]] = {}
        self._extents: dict[tuple[Expr, Expr], Expr] = {}
        self._specs: dict[Any, TensorSpec] = {}
        self._operators: dict[Any, Operator] = {}
        self._mode = mode
        self._never_longer: set[int] = set()
        self._twins: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    # -- storages --

    def register(self, tensor: torch.Tensor, role: str, name: str = "") -> int:
        """Declare a tensor that exists before the first op."""
        index = self._storage(tensor if is_fake(tensor) else self._twin(tensor), role)
        storage = self.storages[index]
        storage.role, storage.name = role, name or storage.name
        return index

    def stays_as_long(self, states: Sequence[torch.Tensor]) -> None:
        """Declare state that is rolled or overwritten: what is put behind it makes a new tensor."""
        self._never_longer |= {self.register(state, KV) for state in states}

    def _storage(self, tensor: torch.Tensor, role: str = ACTIVATION) -> int:
        key, storage = storage_key(tensor)
        known = self._storage_of.get(key)
        if known is not None:
            return known
        index = len(self.storages)
        at = len(self.nodes) if role == ACTIVATION else -1
        self.storages.append(_Live(self._extent(tensor, storage), dtype_name(tensor), role, at))
        self._adopt(key, storage, index)
        return index

    def _extent(self, tensor: torch.Tensor, storage: torch.UntypedStorage) -> Expr:
        """Elements of the whole storage, of which `tensor` may be a part; spelled as its shape spells it."""
        seen = self.reader.elements(tensor, self.reader.shape(tensor))
        whole = self.reader.size(storage.nbytes() // tensor.element_size())
        if whole is not seen and (seen, whole) not in self._extents:
            at = {name: 1009 + 2 * place for place, name in enumerate(sorted(seen.symbols | whole.symbols))}
            same = bool(evaluate(seen, at) == evaluate(whole, at))  # the same sum, written differently
            self._extents[seen, whole] = seen if same else whole
        return self._extents.get((seen, whole), seen)

    def _adopt(self, key: int, storage: torch.UntypedStorage, index: int) -> None:
        self._storage_of[key] = index
        self.storages[index].aliases += 1
        self._watch[key] = weakref.ref(storage, lambda _: self._died(key, index))

    def _died(self, key: int, index: int) -> None:
        self._watch.pop(key, None)
        if self._storage_of.get(key) == index:
            del self._storage_of[key]
        live = self.storages[index]
        live.aliases -= 1
        if live.aliases == 0:
            live.freed_at = len(self.nodes) - 1

    def _twin(self, constant: torch.Tensor) -> torch.Tensor:
        """The fake tensor that stands for a tensor with data, which the module holds on to."""
        if id(constant) not in self._twins:
            made = twin(self._mode, constant)
            self._twins[id(constant)] = (constant, made)
            self._storage(made, BUFFER)
        return self._twins[id(constant)][1]

    @contextmanager
    def not_recording(self) -> Iterator[None]:
        """What runs in the block leaves no node."""
        self.paused += 1
        try:
            yield
        finally:
            self.paused -= 1

    # -- modules --

    @contextmanager
    def following(self, module: nn.Module) -> Iterator[None]:
        """Attribute ops to the innermost running submodule of `module`."""
        handles = []
        for name, child in module.named_modules(remove_duplicate=True):
            index = len(self.modules) if name else 0
            if name:
                self.modules.append(name)
            for parameter in child.parameters(recurse=False):
                self._owner.setdefault(id(parameter), index)

            def enter(_m: nn.Module, _a: Any, index: int = index) -> None:
                self._module_stack.append(index)
                self._entries.append((next_sequence(), index))

            def leave(_m: nn.Module, _a: Any, _o: Any) -> None:
                self._module_stack.pop()
                self._entries.append((next_sequence(), self._module_stack[-1]))

            handles.append(child.register_forward_pre_hook(enter))
            handles.append(child.register_forward_hook(leave, always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _module(self) -> int:
        """The innermost running module; of an op of the backward pass the one that its forward op ran in."""
        backward = running_backward() if self.phase == BACKWARD and len(self._module_stack) == 1 else None
        if backward is None:
            return self._module_stack[-1]
        sequence, parameter = backward
        if parameter is not None:
            return self._owner.get(id(parameter), 0)
        return self._entries[bisect_right(self._entries, sequence, key=lambda entry: entry[0]) - 1][1]

    # -- operands and nodes --

    def operand(self, tensor: torch.Tensor) -> Operand:
        """The spec and storage of a tensor argument."""
        index = self._storage(tensor)
        shape = self.reader.shape(tensor)
        elements = self.reader.elements(tensor, shape)
        dtype = dtype_name(tensor)
        found = self.storages[index].role
        key = (shape, dtype, found, elements)
        spec = self._specs.get(key)
        if spec is None:
            spec = self._specs[key] = TensorSpec(shape, dtype, found, elements)
        return Operand(spec, index)

    def add(
        self, name: str, made: Canonical, inputs: tuple[Operand, ...], outputs: tuple[Operand, ...]
    ) -> None:
        """Append one node."""
        if self._deadline is not None and time.thread_time() > self._deadline:
            raise TraceBudget
        if made.inputs is not None:
            inputs = tuple(inputs[i] for i in made.inputs)
        if made.outputs is not None:
            outputs = tuple(outputs[i] for i in made.outputs)
        specs = (tuple(o.spec for o in inputs), tuple(o.spec for o in outputs))
        key = (made.kind, name, made.dims, specs, made.attributes)
        operator = self._operators.get(key)
        if operator is None:
            operator = self._operators[key] = Operator(made.kind, name, made.dims, *specs, made.attributes)
        at = len(self.nodes)
        reads, writes = tuple(o.storage for o in inputs), tuple(o.storage for o in outputs)
        for index in (*reads, *writes):
            self.storages[index].last_used_at = at
        self.nodes.append(OpNode(operator, reads, writes, self._module(), at, self.phase))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.paused:
            return func(*args, **kwargs)
        name = func._schema.name.replace("::", ".")
        given = list(_tensors((args, kwargs)))
        if not all(map(is_fake, given)):
            if name == "aten._local_scalar_dense":
                with with_real_tensors():
                    return func(*args, **kwargs)
            args, kwargs = mapped_tensors(self._faked, (args, kwargs))
            given = list(_tensors((args, kwargs)))
        if is_free(name):
            return func(*args, **kwargs)
        if name == "aten.slice_backward" and self._is_whole(*args):
            return args[0]
        inputs = tuple(map(self.operand, given))
        out = func(*args, **kwargs)
        results = tuple(_tensors(out))
        if not results and not inputs:
            return out
        if name == "aten.cat" and self._is_append(inputs):
            self._append(inputs, results[0])
            return out
        outputs = tuple(map(self.operand, results))
        plain = [self._plain(a) for a in args]
        keywords = {k: self._plain(v) for k, v in kwargs.items()}
        call = Call(name, inputs, outputs, tuple(plain), keywords, self._expected)
        self.add(name, self._canonical(func, call), inputs, outputs)
        self.masks.follow(name, inputs, outputs, args, results)
        return out

    def _canonical(self, func: Any, call: Call) -> Canonical:
        """What the op is: by the user's rule, by one of ours, or unknown."""
        if call.name in self._rules:
            return custom(self._rules[call.name], call)
        rule = aten_rule(f"{call.name}.{func._overloadname}") or aten_rule(call.name)
        return rule(call) if rule else Canonical("unknown")

    def _is_whole(self, grad: torch.Tensor, sizes: Any, dim: int, *_: Any) -> bool:
        """Whether a slice left nothing out, as the `:` in x[:, 0]: torch sees that at a plain number only."""
        return self.reader.size(grad.shape[dim]) is self.reader.size(sizes[dim])

    def _faked(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor if is_fake(tensor) else self._twin(tensor)

    def _plain(self, value: Any) -> Any:
        if isinstance(value, torch.SymInt):
            return self.reader.size(value)
        if isinstance(value, (list, tuple)):
            return [self._plain(v) for v in value]
        return TENSOR if isinstance(value, torch.Tensor) else value

    # -- KV cache --

    def _is_append(self, inputs: tuple[Operand, ...]) -> bool:
        """Whether new values are put behind a whole cache; a part of one is copied like anything else."""
        if len(inputs) != 2:
            return False
        cache = self.storages[inputs[0].storage]
        if inputs[0].storage in self._never_longer:
            return False
        return cache.role == KV and inputs[0].spec.elements == cache.elements

    def _append(self, inputs: tuple[Operand, ...], grown: torch.Tensor) -> None:
        """`cat(cache, new)` appends in place: the result is the cache's own storage, grown."""
        cache, new = inputs
        key, storage = storage_key(grown)
        self._adopt(key, storage, cache.storage)
        spec = self.operand(grown).spec
        self.storages[cache.storage].elements = spec.elements
        made = Canonical("kv_append", (("new", new.spec.elements),))
        self.add("aten.cat", made, inputs, (Operand(spec, cache.storage),))

    # -- the end --

    def gradients(self, module: nn.Module) -> None:
        """Declare the gradients that a backward pass left, each by the name of its parameter."""
        found = set()
        for name, parameter in module.named_parameters():
            if parameter.grad is not None:
                found.add(self.register(parameter.grad, GRADIENT, name))
        changed: dict[tuple[int, ...], Operator] = {}
        for at, node in enumerate(self.nodes):
            if found.isdisjoint((*node.reads, *node.writes)):
                continue
            marks = [storage in found for storage in (*node.reads, *node.writes)]
            key = (id(node.operator), *marks)
            if key not in changed:
                changed[key] = _marked(node.operator, marks)
            self.nodes[at] = replace(node, operator=changed[key])

    def finished(self) -> tuple[tuple[OpNode, ...], tuple[Storage, ...]]:
        """Nodes and storages; what is still alive lives to the end."""
        end = len(self.nodes)
        return tuple(self.nodes), tuple(live.closed(end) for live in self.storages)


def _marked(operator: Operator, marks: list[bool]) -> Operator:
    """The operator with the role of gradients where `marks`, over inputs and outputs, says so."""
    specs = [
        replace(spec, role=GRADIENT) if mark else spec
        for spec, mark in zip((*operator.inputs, *operator.outputs), marks, strict=True)
    ]
    inputs = len(operator.inputs)
    return replace(operator, inputs=tuple(specs[:inputs]), outputs=tuple(specs[inputs:]))


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, Mapping):
        yield from _tensors(tuple(value.values()))


def register_module(recorder: Recorder, module: nn.Module) -> None:
    """Declare parameters and buffers; a tied parameter is one storage."""
    for name, parameter in module.named_parameters():
        recorder.register(parameter, WEIGHT, name)
    for name, buffer in module.named_buffers():
        recorder.register(buffer, BUFFER, name)


def register_inputs(recorder: Recorder, leaves: list[tuple[torch.Tensor, str]]) -> None:
    """Declare model inputs with their roles (`input` or `kv`)."""
    for index, (tensor, role) in enumerate(leaves):
        if role not in (INPUT, KV):
            raise GraphError(f"input role {role!r} is unknown; use 'input' or 'kv'")
        recorder.register(tensor, role, f"input.{index}")
