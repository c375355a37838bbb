"""Data movement: copies, concatenation, gathers and scatters; and the ops that move nothing at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from graphs.expressions import Expr, number, product
from graphs.ir import Operator
from graphs.work.work import Call, Canonical, Operand, Work

# Views and metadata: no byte moves. Everything not here and without a rule is reported as unknown.
FREE = frozenset(
    f"aten.{name}"
    for name in (
        "_unsafe_view", "_reshape_alias", "alias", "as_strided", "as_strided_", "chunk", "detach", "detach_",
        "diagonal",
        "empty", "empty_like", "empty_strided", "expand", "expand_as", "flatten", "lift_fresh", "movedim",
        "narrow", "new_empty", "new_empty_strided", "numpy_T", "permute", "real", "imag", "resize_", "select",
        "set_", "slice", "split", "split_with_sizes", "squeeze", "squeeze_", "sym_numel", "sym_size",
        "sym_storage_offset", "sym_stride", "t", "t_", "transpose", "transpose_", "unbind", "unflatten",
        "unfold", "unsqueeze", "unsqueeze_", "view", "view_as", "view_as_complex", "view_as_real", "_conj",
        "_neg_view", "swapaxes", "hsplit", "is_same_size", "_local_scalar_dense", "item", "_assert_async",
        "_assert_scalar", "sym_constrain_range", "sym_constrain_range_for_size", "_assert_tensor_metadata",
        "lift", "unsafe_split", "unsafe_split_with_sizes", "unsafe_chunk",
    )
) | frozenset(
    ("prim.device", "prims.view_of", "profiler._record_function_enter_new", "prim.layout")
)  # fmt: skip


def _copy(call: Call) -> Canonical:
    return Canonical("copy")


def _copy_in_place(call: Call) -> Canonical:
    """dst.copy_(src): the old contents of dst are not read."""
    return Canonical("copy", inputs=(1,) if len(call.inputs) > 1 else ())


def _picked(table: Operand, rows: Expr, run: Expr) -> Canonical:
    return Canonical("gather", (("rows", rows), ("run", run), ("table", table.spec.elements)))


def _index(call: Call) -> Canonical:
    """table[indices]: what lies behind the last indexed dimension is contiguous."""
    table, out = call.inputs[0], call.outputs[0]
    trailing = len(table.shape) - _last_indexed(call) - 1
    split = len(out.shape) - trailing
    return _picked(table, product(out.shape[:split]), product(out.shape[split:]))


def _last_indexed(call: Call) -> int:
    return max(place for place, index in enumerate(call.arguments[1]) if index is not None)


def _index_select(call: Call) -> Canonical:
    table, out = call.inputs[0], call.outputs[0]
    dim = _dimension(call, table)
    return _picked(table, product(out.shape[: dim + 1]), product(out.shape[dim + 1 :]))


def _dimension(call: Call, operand: Operand) -> int:
    return int(call.arguments[1]) % max(1, len(operand.shape))


def _embedding(call: Call) -> Canonical:
    table, index = call.inputs[0], call.inputs[1]
    return _picked(table, product(index.shape), product(table.shape[1:]))


def _lookup_sum(call: Call) -> Canonical:
    table, index = call.inputs[0], call.inputs[1]
    return Canonical(
        "lookup_sum",
        (("rows", product(index.shape)), ("run", product(table.shape[1:])), ("table", table.spec.elements)),
    )


def _gather_elements(call: Call) -> Canonical:
    """gather(table, dim, index): where the index is repeated along the last dimensions, whole runs."""
    table, index = call.inputs[0], call.inputs[1]
    dim = _dimension(call, table) if len(call.arguments) > 1 and call.name == "aten.gather" else -1
    rows, run = product(index.shape[: dim + 1]), product(index.shape[dim + 1 :])
    if dim >= 0 and index.spec.elements == rows:
        return _picked(table, rows, run)
    return _picked(table, product(index.shape), number(1))


def _placed(call: Call, rows: Expr, run: Expr, *, adds: bool) -> Canonical:
    """Rows written or added at given places; without a trailing _ the rest is copied into a new tensor."""
    words = [("adds", "yes")] if adds else []
    if not call.name.endswith("_"):
        words.append(("copies", "yes"))
    return Canonical("scatter", (("rows", rows), ("run", run)), tuple(words))


def _scatter(call: Call) -> Canonical:
    """scatter(self, dim, index, source): element by element."""
    adds = "add" in call.name or "reduce" in call.name or "reduce" in call.keywords
    return _placed(call, product(call.inputs[1].shape), number(1), adds=adds)


def _index_add(call: Call) -> Canonical:
    """index_add(self, dim, index, source): slices along dim."""
    source = call.inputs[2]
    dim = _dimension(call, source)
    rows, run = product(source.shape[: dim + 1]), product(source.shape[dim + 1 :])
    return _placed(call, rows, run, adds="copy" not in call.name)


def _index_put(call: Call) -> Canonical:
    """self[indices] = values: dimensions before the last index that are taken whole repeat its rows."""
    target, index = call.inputs[0], call.inputs[1]
    last = _last_indexed(call)
    whole = (
        size for size, at in zip(target.shape, call.arguments[1][: last + 1], strict=False) if at is None
    )
    adds = len(call.arguments) > 3 and call.arguments[3] is True
    return _placed(call, product(index.shape) * product(whole), product(target.shape[last + 1 :]), adds=adds)


def _embedding_backward(call: Call) -> Canonical:
    """Rows added into a table of zeros, which is written whole."""
    run = product(call.outputs[0].shape[1:])
    dims = (("rows", product(call.inputs[1].shape)), ("run", run))
    return Canonical("scatter", dims, (("adds", "yes"), ("copies", "yes")))


def _picked_losses(call: Call) -> Canonical:
    """The log-probability of each row's target."""
    return _picked(call.inputs[0], product(call.inputs[1].shape), number(1))


def _placed_losses(call: Call) -> Canonical:
    """Zeros but at each row's target: the log-probabilities give only the shape."""
    return Canonical("copy", inputs=(0, 2))


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


def lookup_sum_work(operator: Operator) -> Work:
    """A gather whose rows are summed as they come, each with its weight.

    One multiply-add per element read, which no machine's vector lanes need as long for as its memory, so that
    it counts as work and takes no time of its own.
    """
    return replace(gather_work(operator), flop=2 * operator.dim("rows") * operator.dim("run"))


def scatter_work(operator: Operator) -> Work:
    """The touched rows written, and read before when they are added to; indices and sources once."""
    rows, run = operator.dim("rows"), operator.dim("run")
    touched, adds = rows * run, bool(operator.attribute("adds"))
    target = operator.inputs[0].elements if operator.attribute("copies") else touched * int(adds)
    writes = [o.elements if operator.attribute("copies") else touched for o in operator.outputs]
    return Work(
        gather_run=run,
        vector_flop=touched * int(adds),
        reads=(target, *(spec.elements for spec in operator.inputs[1:])),
        writes=tuple(writes),
    )


def unknown_work(operator: Operator) -> Work:
    """An op without a rule: every operand read once and every result written once, nothing computed."""
    return copy_work(operator)


_COPIES = (
    "_adaptive_avg_pool2d_backward", "avg_pool2d_backward", "diagonal_backward",
    "max_pool2d_with_indices_backward", "reflection_pad1d_backward", "reflection_pad2d_backward",
    "replication_pad1d_backward", "replication_pad2d_backward", "select_backward", "slice_backward",
    "unfold_backward", "value_selecting_reduction_backward",
    "_to_copy", "_to_dense", "_pad_circular", "affine_grid_generator", "bincount", "block_diag", "cat",
    "channel_shuffle", "clone", "col2im", "constant_pad_nd", "contiguous", "copy", "diag_embed",
    "diagonal_scatter", "flip", "im2col", "index_fill", "kron", "masked_scatter", "native_channel_shuffle",
    "one_hot", "pad", "pixel_shuffle", "pixel_unshuffle", "reflection_pad1d", "reflection_pad2d",
    "reflection_pad3d", "repeat", "repeat_interleave", "replication_pad1d", "replication_pad2d",
    "replication_pad3d", "roll", "rot90", "select_scatter", "slice_scatter", "stack", "as_strided_copy",
    "as_strided_scatter", "expand_copy", "permute_copy", "slice_copy", "split_copy",
    "split_with_sizes_copy", "squeeze_copy", "to", "transpose_copy", "unbind_copy", "unfold_copy",
    "unsqueeze_copy", "view_as_complex_copy", "view_as_real_copy", "view_copy", "cartesian_prod",
    "meshgrid", "masked_scatter_", "index_fill_",
)  # fmt: skip
ATEN: dict[str, Callable[[Call], Canonical]] = {
    **{f"aten.{name}": _copy for name in _COPIES},
    "aten.copy_": _copy_in_place,
    "aten.index_select": _index_select,
    "aten.index": _index,
    "aten._unsafe_index": _index,
    "aten.embedding": _embedding,
    "aten._embedding_bag": _embedding,
    "hwsim.lookup_sum": _lookup_sum,
    "aten.gather": _gather_elements,
    "aten.take": _gather_elements,
    "aten.embedding_dense_backward": _embedding_backward,
    "aten.nll_loss_forward": _picked_losses,
    "aten.nll_loss2d_forward": _picked_losses,
    "aten.nll_loss_backward": _placed_losses,
    "aten.nll_loss2d_backward": _placed_losses,
}
ATEN |= {
    f"aten.{name}{suffix}": rule
    for suffix in ("", "_")
    for names, rule in (
        (("scatter", "scatter_add", "scatter_reduce"), _scatter),
        (("index_add", "index_copy", "index_reduce"), _index_add),
        (("index_put",), _index_put),
    )
    for name in names
}
RULES = {
    "copy": copy_work,
    "kv_append": kv_append_work,
    "gather": gather_work,
    "lookup_sum": lookup_sum_work,
    "scatter": scatter_work,
    "unknown": unknown_work,
}
