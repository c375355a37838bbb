"""Data movement: copies, concatenation, gathers and scatters; and the ops that move nothing at all."""

from __future__ import annotations

from graphs.expressions import maximum, number, product
from graphs.ir import Operator
from graphs.work.work import Call, Canonical, Work

# Views and metadata: no byte moves. Everything not here and without a rule is reported as unknown.
FREE = frozenset(
    f"aten.{name}"
    for name in (
        "_unsafe_view", "_reshape_alias", "alias", "as_strided", "chunk", "detach", "detach_", "diagonal", "empty",
        "empty_like", "empty_strided", "expand", "expand_as", "flatten", "lift_fresh", "movedim", "narrow", "new_empty",
        "new_empty_strided", "numpy_T", "permute", "real", "imag", "resize_", "select", "set_", "slice", "split",
        "split_with_sizes", "squeeze", "squeeze_", "sym_numel", "sym_size", "sym_storage_offset", "sym_stride", "t",
        "t_", "transpose", "transpose_", "unbind", "unflatten", "unfold", "unsqueeze", "unsqueeze_", "view",
        "view_as", "view_as_complex", "view_as_real", "_conj", "_neg_view", "swapaxes", "hsplit", "is_same_size",
        "_local_scalar_dense", "item", "_assert_async", "_assert_scalar", "sym_constrain_range",
        "sym_constrain_range_for_size", "_assert_tensor_metadata", "lift",
    )
) | frozenset(("prim.device", "prims.view_of", "profiler._record_function_enter_new", "prim.layout"))  # fmt: skip


def _copy(call: Call) -> Canonical:
    return Canonical("copy")


def _copy_in_place(call: Call) -> Canonical:
    """dst.copy_(src): the old contents of dst are not read."""
    return Canonical("copy", inputs=(1,) if len(call.inputs) > 1 else ())


def _gather(call: Call) -> Canonical:
    """Rows picked from a table: `run` elements are contiguous per index."""
    table, out = call.inputs[0], call.outputs[0]
    index = call.inputs[1] if len(call.inputs) > 1 else out
    rows = product(index.shape)
    run = maximum(1, product(out.shape) / rows)
    return Canonical("gather", (("rows", rows), ("run", run), ("table", table.spec.elements)))


def _embedding(call: Call) -> Canonical:
    table, index = call.inputs[0], call.inputs[1]
    return Canonical(
        "gather",
        (("rows", product(index.shape)), ("run", product(table.shape[1:])), ("table", table.spec.elements)),
    )


def _gather_elements(call: Call) -> Canonical:
    table, index = call.inputs[0], call.inputs[1]
    return Canonical(
        "gather", (("rows", product(index.shape)), ("run", number(1)), ("table", table.spec.elements))
    )


def _scatter(call: Call) -> Canonical:
    """Elements written or added at given places of the output; the untouched rest is not moved when in place."""
    source = call.inputs[-1]
    rows = product(source.shape[:1]) if source.shape else number(1)
    run = maximum(1, product(source.shape) / rows)
    return Canonical("scatter", (("rows", rows), ("run", run)))


def copy_work(operator: Operator) -> Work:
    """Bytes in and bytes out, no arithmetic."""
    return Work(
        reads=tuple(spec.elements for spec in operator.inputs),
        writes=tuple(spec.elements for spec in operator.outputs),
    )


def kv_append_work(operator: Operator) -> Work:
    """New keys or values written behind the cached ones: the cache itself is neither read nor copied."""
    new = operator.dim("new")
    return Work(
        reads=tuple(number(0) if i == 0 else s.elements for i, s in enumerate(operator.inputs)), writes=(new,)
    )


def gather_work(operator: Operator) -> Work:
    """Only the picked rows of the table are read; indices once, results once."""
    rows, run = operator.dim("rows"), operator.dim("run")
    reads = tuple(rows * run if i == 0 else spec.elements for i, spec in enumerate(operator.inputs))
    return Work(gather_run=run, reads=reads, writes=tuple(spec.elements for spec in operator.outputs))


def scatter_work(operator: Operator) -> Work:
    """Read-modify-write of the touched rows, plus the sources."""
    rows, run = operator.dim("rows"), operator.dim("run")
    touched = rows * run
    reads = tuple(touched if i == 0 else spec.elements for i, spec in enumerate(operator.inputs))
    return Work(
        gather_run=run, vector_flop=touched, reads=reads, writes=tuple(touched for _ in operator.outputs)
    )


def unknown_work(operator: Operator) -> Work:
    """An op without a rule: every operand read once and every result written once, nothing computed."""
    return copy_work(operator)


ATEN = {
    "aten.clone": _copy,
    "aten.contiguous": _copy,
    "aten._to_copy": _copy,
    "aten.to": _copy,
    "aten.cat": _copy,
    "aten.stack": _copy,
    "aten.repeat": _copy,
    "aten.repeat_interleave": _copy,
    "aten.roll": _copy,
    "aten.flip": _copy,
    "aten.constant_pad_nd": _copy,
    "aten.pad": _copy,
    "aten.copy": _copy,
    "aten.copy_": _copy_in_place,
    "aten.index_select": _gather,
    "aten.index": _gather,
    "aten._unsafe_index": _gather,
    "aten.embedding": _embedding,
    "aten.gather": _gather_elements,
    "aten.take": _gather_elements,
    "aten.scatter": _scatter,
    "aten.scatter_": _scatter,
    "aten.scatter_add": _scatter,
    "aten.scatter_add_": _scatter,
    "aten.index_add": _scatter,
    "aten.index_add_": _scatter,
    "aten.index_copy_": _scatter,
    "aten.index_put": _scatter,
    "aten.index_put_": _scatter,
    "aten.slice_scatter": _copy,
    "aten.one_hot": _copy,
    "aten.bincount": _copy,
}
RULES = {
    "copy": copy_work,
    "kv_append": kv_append_work,
    "gather": gather_work,
    "scatter": scatter_work,
    "unknown": unknown_work,
}
