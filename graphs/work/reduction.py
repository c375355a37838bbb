"""Norms, softmax, reductions, scans, sorting, pooling: rows of `cols` elements each."""

from __future__ import annotations

from collections.abc import Callable

from graphs.expressions import Expr, maximum, number, product
from graphs.ir import Operator
from graphs.work.work import Call, Canonical, Work

# kind -> (vector FLOP per input element, special results per input element, special results per row)
COSTS: dict[str, tuple[int, int, int]] = {
    "norm": (7, 0, 1),  # mean, variance, scale, shift; one rsqrt a row
    "rms_norm": (4, 0, 1),
    "softmax": (4, 1, 1),  # max, subtract, exp, sum, scale
    "log_softmax": (4, 1, 1),
    "reduce": (1, 0, 0),
    "scan": (2, 0, 0),
    "sort": (0, 0, 0),
    "pool": (1, 0, 0),
    "quantise": (3, 0, 1),  # largest magnitude, scale, round; one reciprocal a row
    "norm_backward": (14, 0, 1),
    "rms_norm_backward": (9, 0, 0),  # gradients of data (the row's mean removed along it) and of the gain
    "softmax_backward": (4, 0, 0),
    "log_softmax_backward": (3, 1, 0),
    "loss": (3, 0, 0),  # difference, square or magnitude, sum
}


def _rows_cols(shape: tuple[Expr, ...], dims: object) -> tuple[Expr, Expr]:
    """(rows, cols) of a reduction over `dims` (int, list, or None for all)."""
    if not shape:
        return number(1), number(1)
    if dims is None or dims == []:
        return number(1), product(shape)
    chosen = [d % len(shape) for d in ([dims] if isinstance(dims, int) else list(dims))]  # type: ignore[call-overload]
    cols = product(shape[d] for d in chosen)
    return product(shape[d] for d in range(len(shape)) if d not in chosen), cols


def _reduction(
    kind: str, at: int | None, keyword: str = "dim", *, default: int | None = None
) -> Callable[[Call], Canonical]:
    """Rule of an op that reduces the dimensions its argument `at` names; `default` where none is given."""

    def rule(call: Call) -> Canonical:
        dims = call.keywords.get(keyword)
        if dims is None and at is not None and len(call.arguments) > at:
            dims = call.arguments[at]
        if isinstance(dims, bool) or not isinstance(dims, int | list | tuple):
            dims = default
        rows, cols = _rows_cols(call.inputs[0].shape, dims)
        return Canonical(kind, (("rows", rows), ("cols", cols)))

    return rule


def _layer_norm(call: Call) -> Canonical:
    width = len(call.arguments[1])
    shape = call.inputs[0].shape
    rows, cols = product(shape[: len(shape) - width]), product(shape[len(shape) - width :])
    return Canonical("norm", (("rows", rows), ("cols", cols)))


def _rms_norm(call: Call) -> Canonical:
    made = _layer_norm(call)
    return Canonical("rms_norm", made.dims)


def _norm_backward(call: Call) -> Canonical:
    """Of (gradient, data, normalized shape, ...)."""
    shape, width = call.inputs[1].shape, len(call.arguments[2])
    rows, cols = product(shape[: len(shape) - width]), product(shape[len(shape) - width :])
    kind = "rms_norm_backward" if "rms" in call.name else "norm_backward"
    return Canonical(kind, (("rows", rows), ("cols", cols)))


def _batch_norm_backward(call: Call) -> Canonical:
    shape = call.inputs[1].shape
    return Canonical("norm_backward", (("rows", shape[1]), ("cols", shape[0] * product(shape[2:]))))


def _group_norm_backward(call: Call) -> Canonical:
    shape, groups = call.inputs[1].shape, int(call.arguments[8])
    return Canonical("norm_backward", (("rows", shape[0] * groups), ("cols", product(shape[1:]) // groups)))


def _batch_norm(call: Call) -> Canonical:
    """With statistics that are known nothing is combined: a scale and a shift per channel."""
    if call.name.endswith("_no_training") or (
        call.name == "aten.native_batch_norm" and len(call.arguments) > 5 and not call.arguments[5]
    ):
        return Canonical("pointwise", outputs=(0,))
    shape = call.inputs[0].shape
    return Canonical("norm", (("rows", shape[1]), ("cols", shape[0] * product(shape[2:]))))


def _group_norm(call: Call) -> Canonical:
    shape, groups = call.inputs[0].shape, int(call.arguments[6])
    rows = shape[0] * groups
    return Canonical("norm", (("rows", rows), ("cols", product(shape[1:]) // groups)))


def _window(call: Call) -> Canonical:
    """Pooling: rows outputs, cols window elements (inputs per output, rounded by the size ratio)."""
    rows = product(call.outputs[0].shape)
    return Canonical("pool", (("rows", rows), ("cols", maximum(1, product(call.inputs[0].shape) / rows))))


def _weight_norm(call: Call) -> Canonical:
    """A weight scaled to the length its gain says: a norm per element of the gain."""
    weight, gain = call.inputs[0], call.inputs[1]
    rows = product(gain.shape)
    return Canonical("norm", (("rows", rows), ("cols", product(weight.shape) / rows)))


def _rows_of_first(call: Call) -> Canonical:
    """A loss that picks from each row of scores."""
    shape = call.inputs[0].shape
    return Canonical("reduce", (("rows", product(shape[:-1])), ("cols", shape[-1])))


def _search(call: Call) -> Canonical:
    """Each value looked up in a sorted list, priced as a sort of the values by halving."""
    return Canonical("sort", (("rows", number(1)), ("cols", product(call.outputs[0].shape))))


def _rows_work(operator: Operator) -> Work:
    """Counts of `COSTS` per element and per row; operands stream once."""
    per_element, special_element, special_row = COSTS[operator.kind]
    rows, cols = operator.dim("rows"), operator.dim("cols")
    return Work(
        dims={"rows": rows, "cols": cols},
        vector_flop=rows * cols * per_element,
        special_op=rows * cols * special_element + rows * special_row,
        reads=tuple(spec.elements for spec in operator.inputs),
        writes=tuple(spec.elements for spec in operator.outputs),
    )


def _sort_work(operator: Operator) -> Work:
    """Comparison sort or selection as a bitonic network: log2(cols) rounds, taken as 16 per element."""
    plain = _rows_work(operator)
    return Work(
        dims=plain.dims,
        vector_flop=operator.dim("rows") * operator.dim("cols") * 16,
        reads=plain.reads,
        writes=plain.writes,
    )


_REDUCE = (
    "sum", "mean", "amax", "amin", "aminmax", "max", "min", "prod", "any", "all", "argmax", "argmin", "var",
    "std", "var_mean", "std_mean", "logsumexp", "nansum", "count_nonzero", "median", "histc",
)  # fmt: skip

_POOLS = (
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "max_pool1d", "max_pool2d", "max_pool3d",
    "max_pool1d_with_indices", "max_pool2d_with_indices", "max_pool3d_with_indices", "_adaptive_avg_pool2d",
    "_adaptive_avg_pool3d", "adaptive_avg_pool1d", "adaptive_max_pool1d", "adaptive_max_pool2d",
    "adaptive_max_pool3d", "mkldnn_max_pool2d", "mkldnn_max_pool3d",
)  # fmt: skip

ATEN: dict[str, Callable[[Call], Canonical]] = {
    "aten.native_layer_norm": _layer_norm,
    "aten._fused_rms_norm": _rms_norm,
    "aten.native_batch_norm": _batch_norm,
    "aten._native_batch_norm_legit": _batch_norm,
    "aten._native_batch_norm_legit_no_training": _batch_norm,
    "aten._batch_norm_with_update": _batch_norm,
    "aten.native_group_norm": _group_norm,
    "aten._softmax": _reduction("softmax", 1),
    "aten._safe_softmax": _reduction("softmax", 1),
    "aten._log_softmax": _reduction("log_softmax", 1),
    "aten._softmax_backward_data": _reduction("softmax_backward", 2),
    "aten._log_softmax_backward_data": _reduction("log_softmax_backward", 2),
    "aten.native_layer_norm_backward": _norm_backward,
    "aten._fused_rms_norm_backward": _norm_backward,
    "aten.native_batch_norm_backward": _batch_norm_backward,
    "aten.native_group_norm_backward": _group_norm_backward,
    "aten.mse_loss": _reduction("loss", None),
    "aten.smooth_l1_loss": _reduction("loss", None),
    "aten.huber_loss": _reduction("loss", None),
    "aten.binary_cross_entropy_with_logits": _reduction("loss", None),
    "aten.cumsum": _reduction("scan", 1),
    "aten.cumprod": _reduction("scan", 1),
    "aten.cummax": _reduction("scan", 1),
    "aten.cummin": _reduction("scan", 1),
    "aten.logcumsumexp": _reduction("scan", 1),
    "hwsim.leaky": _reduction("scan", None, default=-1),
    "hwsim.leaky_backward": _reduction("scan", None, default=-1),
    "aten.topk": _reduction("sort", 2, default=-1),
    "aten.kthvalue": _reduction("sort", 2, default=-1),
    "aten.sort": _reduction("sort", 1, default=-1),
    "aten.argsort": _reduction("sort", 1, default=-1),
    "aten._weight_norm_interface": _weight_norm,
    "aten._ctc_loss": _rows_of_first,
    "aten.searchsorted": _search,
    "aten.bucketize": _search,
    **{f"aten.{name}": _window for name in _POOLS},
    "aten.norm": _reduction("reduce", 2),
    "aten.linalg_vector_norm": _reduction("reduce", 2),
} | {f"aten.{name}": _reduction("reduce", 1) for name in _REDUCE}
RULES: dict[str, Callable[[Operator], Work]] = {**dict.fromkeys(COSTS, _rows_work), "sort": _sort_work}
