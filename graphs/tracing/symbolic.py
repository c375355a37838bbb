"""Runs one module under fake tensors, sizes symbolic or concrete, and hands back the graph it drew."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from traceback import walk_tb
from typing import Any

import torch
from torch import nn

from graphs.errors import GraphError
from graphs.expressions import Expr, as_expr, evaluate
from graphs.inputs import Example, Input, SymbolValue
from graphs.ir import BACKWARD, INPUT, KV, OperatorGraph, SizeSymbol
from graphs.losses import SUM
from graphs.tracing.composites import composites
from graphs.tracing.known import KnownValues
from graphs.tracing.loss import loss_of
from graphs.tracing.recorder import DTYPE_NAMES, Recorder, TraceBudget, register_inputs, register_module
from graphs.tracing.sizes import SizeReader
from graphs.tracing.state import tensors_of
from graphs.tracing.torch_private import (
    NEEDS_DATA,
    FakeTensorMode,
    KnownRanges,
    fake_mode,
    faked,
    is_fake,
    new_symbol,
    tracing_context,
    unknown_sizes,
    with_real_tensors,
    without_initial_values,
    without_weights,
)
from graphs.work.custom import CustomRule

EXPECTED = ("active_experts",)  # sizes that reach work rules although no tensor has them
TORCH_DTYPES = {name: dtype for dtype, name in DTYPE_NAMES.items() if name != "fp8"}


Arguments = dict[str, Any]
Prepare = Callable[[nn.Module, Arguments, Mapping[str, "int | torch.SymInt"]], "Prepared"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """The arguments of the recorded call, and which tensors in them are a cache that grows or a state."""

    kwargs: Arguments
    grows: Sequence[torch.Tensor] = ()
    stays: Sequence[torch.Tensor] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is traced: how to build the module, how it is called, in which dtype, name and phase.

    `prepare` turns the keyword arguments of the example into those of the recorded call and may run the
    module to do so, unrecorded. `around` is entered while the module is built and run, `rules` say what
    operators of the user's own do, `notes` go into the provenance.
    """

    name: str
    phase: str
    dtype: torch.dtype
    build: Callable[[], nn.Module]
    example: Example
    symbols: Mapping[str, SizeSymbol]
    guards: tuple[Expr, ...] = ()
    prepare: Prepare | None = None
    around: Callable[[], AbstractContextManager[Any]] = nullcontext
    rules: Mapping[str, CustomRule] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    loss: str = SUM  # what a training step derives; see `losses`


@dataclass(frozen=True, slots=True)
class Drawn:
    """One run of the tracer: the graph, and the symbols that torch bound to something on the way."""

    graph: OperatorGraph
    bound: frozenset[str]


def draw(
    subject: Subject, *, hints: Mapping[str, int], concrete: Mapping[str, int], budget_s: float | None = None
) -> Drawn:
    """Trace `subject` with `hints` symbols left open and `concrete` ones as plain ints."""
    mode, env = fake_mode()
    names: dict[Any, str] = {}
    sizes: dict[str, int | torch.SymInt] = dict(concrete)
    for name, hint in hints.items():
        sizes[name], expr = new_symbol(env, name, hint)
        names[expr] = name
    reader = SizeReader(names)
    expected = {name: reader.size(sizes[name]) for name in EXPECTED if name in sizes}
    recorder = Recorder(reader, mode, budget_s, subject.rules, expected)
    with default_dtype(subject.dtype), subject.around(), tracing_context(mode), KnownValues():
        module = _built(subject, mode)
        leaves: list[tuple[torch.Tensor, str]] = []
        args, kwargs = subject.example.map(lambda leaf: _leaf(leaf, sizes, subject.dtype, leaves))
        register_module(recorder, module)
        if subject.prepare is not None:
            kwargs, leaves = _prepared(subject, recorder, module, kwargs, sizes)
        register_inputs(recorder, leaves)
        leaves.clear()
        run = _step if subject.phase == "train" else _call
        with _explained(module), composites(recorder), recorder.following(module):
            out = run(module, args, kwargs, recorder, subject.loss)
        del args, kwargs
        nodes, storages = recorder.finished()
        del out
    guards = [reader.condition(guard.expr) for guard in env.guards]
    bound = frozenset(names[s] for s in env.replacements if s in names)
    graph = OperatorGraph(
        model=subject.name,
        phase=subject.phase,
        dtype=DTYPE_NAMES[subject.dtype],
        symbols=tuple(subject.symbols[name] for name in hints),
        guards=tuple(dict.fromkeys(g for g in guards if g is not None)),
        nodes=nodes,
        storages=storages,
        modules=tuple(recorder.modules),
        provenance={"torch": torch.__version__, **subject.notes},
    )
    return Drawn(graph, bound)


def _call(module: nn.Module, args: Any, kwargs: Any, recorder: Recorder, loss: str) -> Any:
    """The recorded call; what it returns outlives it."""
    with torch.no_grad(), recorder:
        return module.eval()(*args, **kwargs)


def _step(module: nn.Module, args: Any, kwargs: Any, recorder: Recorder, loss: str) -> None:
    """The recorded call and the backward pass of its loss; what outlives them are gradients."""

    def targets_of(logits: torch.Tensor) -> torch.Tensor:
        with recorder.not_recording():
            targets = logits.new_empty(logits.shape[:-1], dtype=torch.int64)
        recorder.register(targets, INPUT, "targets")
        return targets

    module.train()
    with torch.enable_grad(), recorder:
        derived = loss_of(module(*args, **kwargs), loss, targets_of)
        recorder.phase = BACKWARD
        derived.backward()
    recorder.gradients(module)


def first_that_runs(subject: Subject, examples: Sequence[Example], sizes: Mapping[str, int]) -> Example:
    """The first of several calls that the module accepts at `sizes`; the only one is not tried.

    One whose sizes depend on data is taken only where there is no other.
    """
    if len(examples) == 1:
        return examples[0]
    mode, env = fake_mode()
    first: GraphError | None = None
    uncertain: Example | None = None
    with default_dtype(subject.dtype), subject.around(), tracing_context(mode), KnownValues():
        module = _built(subject, mode).eval()
        for example in examples:
            _, kwargs = example.map(lambda leaf: _leaf(leaf, sizes, subject.dtype, []))
            before = unknown_sizes(env)
            try:
                with _explained(module), torch.no_grad():
                    module(**kwargs)
            except GraphError as error:
                first = first or error
            else:
                if unknown_sizes(env) == before:
                    return example
                uncertain = uncertain or example
    if uncertain is not None:
        return uncertain
    raise first or GraphError("the arguments of its forward are not known; write a file.py:factory")


def _prepared(
    subject: Subject,
    recorder: Recorder,
    module: nn.Module,
    kwargs: Arguments,
    sizes: Mapping[str, int | torch.SymInt],
) -> tuple[Arguments, list[tuple[torch.Tensor, str]]]:
    """The arguments of the recorded call and its tensors with their roles."""
    assert subject.prepare is not None
    with _explained(module), torch.no_grad(), composites(recorder), recorder.not_recording():
        made = subject.prepare(module.eval(), kwargs, sizes)
    cached = (*made.grows, *made.stays)
    recorder.stays_as_long(made.stays)
    held = {id(tensor) for tensor in cached}
    given = [(tensor, INPUT) for tensor in tensors_of(made.kwargs) if id(tensor) not in held]
    return made.kwargs, given + [(tensor, KV) for tensor in cached]


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Tensors made in the block are of this dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _built(subject: Subject, mode: FakeTensorMode) -> nn.Module:
    """The module with fake weights; one that reads tensor values while it is built is built for real, its
    parameters on the meta device, so that no model is too large."""
    with _explained(None):
        try:
            with without_initial_values(), KnownRanges(mode):
                module = subject.build()
        except NEEDS_DATA:
            with with_real_tensors(), without_weights():
                module = subject.build()
        if not all(is_fake(tensor) for tensor in (*module.parameters(), *module.buffers())):
            with with_real_tensors():
                module = faked(module, mode)
        return module


@contextmanager
def _explained(module: nn.Module | None) -> Iterator[None]:
    """Whatever user code raises becomes one line that says in which submodule."""
    try:
        yield
    except (GraphError, TraceBudget):
        raise
    except Exception as error:
        paths = {} if module is None else {id(child): path for path, child in module.named_modules()}
        selves = [id(frame.f_locals.get("self")) for frame, _ in walk_tb(error.__traceback__)]
        path = next((paths[one] for one in reversed(selves) if one in paths), "")
        place = "while it is built" if module is None else f"in module {path!r}" if path else "in its forward"
        if isinstance(error, NEEDS_DATA):
            reason = "a size or branch depends on the values of a tensor, which a trace does not have; "
            reason += "pass the count as a forward argument"
        else:
            reason = f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0][:200]}"
        raise GraphError(f"{place}: {reason}") from error


def used_symbols(example: Example, symbols: Mapping[str, SizeSymbol]) -> dict[str, SizeSymbol]:
    """The symbols that the inputs use, and those their defaults are made of."""
    used: set[str] = set()
    for leaf in example.leaves():
        texts = (
            [leaf.name] if isinstance(leaf, SymbolValue) else [s for s in leaf.shape if isinstance(s, str)]
        )
        used.update(name for text in texts for name in as_expr(text).symbols)
    while True:
        wider = used | {n for name in used if name in symbols for n in symbols[name].default.symbols}
        if wider == used:
            return {name: size for name, size in symbols.items() if name in used}
        used = wider


def _leaf(
    leaf: Input | SymbolValue,
    sizes: Mapping[str, int | torch.SymInt],
    dtype: torch.dtype,
    leaves: list[tuple[torch.Tensor, str]],
) -> Any:
    if isinstance(leaf, SymbolValue):
        return sizes[leaf.name]
    shape = [size if isinstance(size, int) else _size(as_expr(size), sizes) for size in leaf.shape]
    kind = dtype if leaf.dtype == "model" else getattr(torch, leaf.dtype)
    if leaf.values is not None:
        tensor = torch.tensor(leaf.values, dtype=kind)
    elif leaf.high == leaf.low + 1:  # a mask of all ones
        tensor = torch.full(shape, leaf.low, dtype=kind)
    else:
        tensor = torch.empty(shape, dtype=kind)
    leaves.append((tensor, leaf.role))
    return tensor


def _size(expr: Expr, sizes: Mapping[str, int | torch.SymInt]) -> int | torch.SymInt:
    """A size expression over possibly symbolic sizes."""
    if expr.op == "sym":
        if expr.text not in sizes:
            raise GraphError(f"input shape uses size {expr.text!r}, which is no symbol of the model")
        return sizes[expr.text]
    if all(isinstance(sizes.get(name), int) for name in expr.symbols):
        return int(evaluate(expr, {name: sizes[name] for name in expr.symbols}))
    left, right = (_size(arg, sizes) for arg in expr.args)
    operations: dict[str, Callable[[Any, Any], Any]] = {
        "+": lambda a, b: a + b,
        "-": lambda a, b: a - b,
        "*": lambda a, b: a * b,
        "//": lambda a, b: a // b,
        "%": lambda a, b: a % b,
    }
    if expr.op not in operations:
        raise GraphError(f"input shape {expr.text!r} uses {expr.op}; only + - * // % are traced symbolically")
    result: int | torch.SymInt = operations[expr.op](left, right)
    return result
