"""Graphs of single operators with every size open: what a kernel benchmark measures, priced like a model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from graphs.expressions import Expr, minimum, number, parse, product, symbol
from graphs.ir import (
    ACTIVATION,
    INPUT,
    KV,
    WEIGHT,
    Operator,
    OperatorGraph,
    OpNode,
    SizeSymbol,
    Storage,
    TensorSpec,
)
from graphs.work.collective import exchange

B, M, N, K = (symbol(name) for name in ("b", "m", "n", "k"))


def spec_of(shape: Sequence[Expr], dtype: str, role: str) -> TensorSpec:
    return TensorSpec(tuple(shape), dtype, role, product(shape))


def graph_of(
    name: str, dtype: str, operators: Sequence[tuple[Operator, Sequence[int], Sequence[int]]]
) -> OperatorGraph:
    """A graph of operators over storages numbered by the caller; inputs and results outlive the run."""
    specs: dict[int, TensorSpec] = {}
    born: dict[int, int] = {}
    last: dict[int, int] = {}
    for at, (operator, reads, writes) in enumerate(operators):
        for storage, spec in zip((*reads, *writes), (*operator.inputs, *operator.outputs), strict=True):
            specs.setdefault(storage, spec)
            last[storage] = at
        for storage in writes:
            born.setdefault(storage, at)
    end = len(operators)
    read = {s for _, reads, _ in operators for s in reads}
    storages = tuple(
        Storage(
            spec.elements, spec.dtype, spec.role, born.get(s, -1), last[s],
            last[s] if s in born and s in read else end, f"operand.{s}" if spec.role == WEIGHT else "",
        )
        for s, spec in sorted(specs.items())
    )  # fmt: skip
    symbols = sorted(
        {n for o, _, _ in operators for s in (*o.inputs, *o.outputs) for n in s.elements.symbols}
    )
    place = {storage: index for index, storage in enumerate(sorted(specs))}
    nodes = tuple(
        OpNode(operator, tuple(place[s] for s in reads), tuple(place[s] for s in writes), 0, at)
        for at, (operator, reads, writes) in enumerate(operators)
    )
    return OperatorGraph(
        model=name,
        phase="forward",
        dtype=dtype,
        symbols=tuple(SizeSymbol(name=n, default=number(1)) for n in symbols),
        guards=(),
        nodes=nodes,
        storages=storages,
        modules=("",),
        provenance={"kernel": name},
    )


@cache
def gemm(
    dtype: str,
    weight_dtype: str = "",
    out_dtype: str = "",
    *,
    bias: bool = False,
    batched: bool = False,
    copies: int = 1,
) -> OperatorGraph:
    """m x k activations times k x n weights (b of each when `batched`), plus a bias row.

    The product is made `copies` times over, each time with other weights.
    """
    front = (B,) if batched else ()
    left = spec_of((*front, M, K), dtype, INPUT)
    right = spec_of((*front, K, N), weight_dtype or dtype, INPUT if batched else WEIGHT)
    out = spec_of((*front, M, N), out_dtype or dtype, ACTIVATION)
    inputs = (left, right, spec_of((N,), out_dtype or dtype, WEIGHT)) if bias else (left, right)
    dims = (("b", B if batched else number(1)), ("m", M), ("n", N), ("k", K))
    one = Operator(
        "gemm", "aten.bmm" if batched else "aten.mm", dims, inputs, (out,), (("bias", "yes"),) if bias else ()
    )
    rest = len(inputs) - 1
    runs = [(one, (0, *range(2 + at * rest, 2 + (at + 1) * rest)), (1,)) for at in range(copies)]
    return graph_of("gemm", dtype, runs)


@cache
def collective(op: str, dtype: str) -> OperatorGraph:
    """One exchange of `elements` elements between the tensor ranks of a layout."""
    spec = spec_of((symbol("elements"),), dtype, ACTIVATION)
    return graph_of(op, dtype, [(exchange(op, "tp", spec), (0,), (0,))])


@cache
def attention(
    dtype: str, kv_dtype: str = "", *, causal: bool = False, windowed: bool = False, values: str = "same"
) -> OperatorGraph:
    """`heads` attentions of q_len queries over kv_len keys, kv_heads distinct key sets.

    When `windowed`, a query of a causal mask sees itself and the `window` - 1 keys before it; keys that no
    query sees are not read. `values` are as wide as keys (`same`), of their own width value_dim (`own`), or
    the first value_dim columns of the keys (`shared`, as in multi-head latent attention: read once).
    """
    names = ("batch", "heads", "kv_heads", "q_len", "kv_len", "head_dim")
    batch, heads, kv_heads, q_len, kv_len, head_dim = (symbol(name) for name in names)
    value_dim = head_dim if values == "same" else symbol("value_dim")
    query = spec_of((batch, heads, q_len, head_dim), dtype, INPUT)
    read = minimum(kv_len, q_len + symbol("window") - 1) if windowed else kv_len
    keys = spec_of((batch, kv_heads, read, head_dim), kv_dtype or dtype, KV)
    value = spec_of((batch, kv_heads, read, value_dim), kv_dtype or dtype, KV)
    if values == "shared":
        value = TensorSpec(value.shape, value.dtype, KV, number(0))
    out = spec_of((batch, heads, q_len, value_dim), dtype, ACTIVATION)
    dims = (
        ("batch", batch), ("heads", heads), ("kv_heads", kv_heads), ("q_len", q_len), ("kv_len", kv_len),
        ("head_dim", head_dim), ("value_dim", value_dim),
        *((("window", symbol("window")),) if windowed else ()),
    )  # fmt: skip
    mask = (("mask", "causal" if causal or windowed else "none"),)
    one = Operator("attention", "attention", dims, (query, keys, value), (out,), mask)
    return graph_of("attention", dtype, [(one, (0, 1, 2), (3,))])


@cache
def elementwise(op: str, dtype: str, operands: int, results: int = 1) -> OperatorGraph:
    """`op` over rows x cols tensors: `operands` of them in, `results` out; norms and softmax over cols.

    `gelu_tanh` is the form of gelu that takes a tanh.
    """
    rows, cols = symbol("rows"), symbol("cols")
    whole = spec_of((rows, cols), dtype, INPUT)
    outputs = (spec_of((rows, cols), dtype, ACTIVATION),) * results
    inputs: tuple[TensorSpec, ...] = (whole,) * operands
    if op in ("softmax", "norm", "rms_norm"):
        weights = {"norm": 2, "rms_norm": 1}.get(op, 0)
        inputs = (*inputs, *(spec_of((cols,), dtype, WEIGHT) for _ in range(weights)))
        one = Operator(op, f"aten.{op}", (("rows", rows), ("cols", cols)), inputs, outputs)
    elif op == "copy":
        one = Operator("copy", "aten.clone", (), inputs, outputs)
    else:
        form = (("form", "tanh"),) if op == "gelu_tanh" else ()
        one = Operator("pointwise", f"aten.{op.removesuffix('_tanh')}", (), inputs, outputs, form)
    count = len(inputs)
    return graph_of(op, dtype, [(one, range(count), range(count, count + results))])


@cache
def quantise(dtype: str, narrow: str, *, by_row: bool = False) -> OperatorGraph:
    """rows x cols of `dtype` in, the same in `narrow` out; `by_row` after looking for its largest value."""
    shape = rows, cols = symbol("rows"), symbol("cols")
    data, out = spec_of(shape, dtype, INPUT), spec_of(shape, narrow, ACTIVATION)
    one = Operator("pointwise", "aten.mul", (), (data,), (out,))
    if by_row:
        one = Operator("quantise", "hwsim.quantise", (("rows", rows), ("cols", cols)), (data,), (out,))
    return graph_of("quantise", dtype, [(one, (0,), (1,))])


@cache
def stream(dtype: str, op: str = "copy") -> OperatorGraph:
    """`read` elements in, `written` elements out, with the arithmetic of pointwise `op` per result."""
    data, out = spec_of((symbol("read"),), dtype, INPUT), spec_of((symbol("written"),), dtype, ACTIVATION)
    kind, name = ("copy", "aten.clone") if op == "copy" else ("pointwise", f"aten.{op}")
    return graph_of("stream", dtype, [(Operator(kind, name, (), (data,), (out,)), (0,), (1,))])


@cache
def lookup(dtype: str) -> OperatorGraph:
    """`rows` rows of `cols` elements out of a table of `table` rows."""
    rows, cols, table = symbol("rows"), symbol("cols"), symbol("table")
    weights = spec_of((table, cols), dtype, WEIGHT)
    index = spec_of((rows,), "int64", INPUT)
    dims = (("rows", rows), ("run", cols), ("table", table * cols))
    one = Operator(
        "gather", "aten.embedding", dims, (weights, index), (spec_of((rows, cols), dtype, ACTIVATION),)
    )
    return graph_of("lookup", dtype, [(one, (0, 1), (2,))])


@cache
def convolution(dtype: str) -> OperatorGraph:
    """A square 2-D convolution, groups 1: batch, c_in, c_out, kernel, in_size, stride, padding."""
    batch, c_in, c_out, kernel, in_size = (symbol(n) for n in ("batch", "c_in", "c_out", "kernel", "in_size"))
    side = parse("(in_size + 2*padding - kernel)//stride + 1")
    data = spec_of((batch, c_in, in_size, in_size), dtype, INPUT)
    weight = spec_of((c_out, c_in, kernel, kernel), dtype, WEIGHT)
    out = spec_of((batch, c_out, side, side), dtype, ACTIVATION)
    dims = (("b", number(1)), ("m", batch * side * side), ("n", c_out), ("k", c_in * kernel * kernel))
    one = Operator("conv", "aten.convolution", dims, (data, weight), (out,), (("groups", "1"),))
    return graph_of("convolution", dtype, [(one, (0, 1), (2,))])


@cache
def expert_mlp(dtype: str, weight_dtype: str = "", *, gated: bool = True) -> OperatorGraph:
    """Experts' MLP: `active` experts of `tokens` rows each, hidden -> (2 x) inter -> hidden; no routing."""
    active, tokens, hidden, inter = (symbol(n) for n in ("active", "tokens", "hidden", "inter"))
    width = inter * (2 if gated else 1)
    stored = weight_dtype or dtype

    def grouped(n: Expr, k: Expr, data: TensorSpec, out: TensorSpec) -> Operator:
        weight = spec_of((active, n, k), stored, WEIGHT)
        dims = (("b", active), ("m", tokens), ("n", n), ("k", k))
        return Operator("grouped_gemm", "hwsim.grouped_linear", dims, (data, weight), (out,))

    data = spec_of((active, tokens, hidden), dtype, INPUT)
    wide, narrow = (
        spec_of((active, tokens, width), dtype, ACTIVATION),
        spec_of((active, tokens, inter), dtype, ACTIVATION),
    )
    out = spec_of((active, tokens, hidden), dtype, ACTIVATION)
    act = Operator("pointwise", "aten.silu", (), (wide,), (narrow,))
    return graph_of(
        "expert mlp",
        dtype,
        [
            (grouped(width, hidden, data, wide), (0, 1), (2,)),
            (act, (2,), (3,)),
            (grouped(hidden, inter, narrow, out), (3, 4), (5,)),
        ],
    )


@cache
def reduction(dtype: str) -> OperatorGraph:
    """The mean of every row of a rows x cols tensor."""
    rows, cols = symbol("rows"), symbol("cols")
    data, out = spec_of((rows, cols), dtype, INPUT), spec_of((rows,), dtype, ACTIVATION)
    one = Operator("reduce", "aten.mean", (("rows", rows), ("cols", cols)), (data,), (out,))
    return graph_of("reduce", dtype, [(one, (0,), (1,))])


@cache
def swap(dtype: str) -> OperatorGraph:
    """A batch x rows x heads x cols tensor copied with its middle dimensions swapped."""
    shape = tuple(symbol(name) for name in ("batch", "rows", "heads", "cols"))
    out = (shape[0], shape[2], shape[1], shape[3])
    one = Operator(
        "copy", "aten.clone", (), (spec_of(shape, dtype, INPUT),), (spec_of(out, dtype, ACTIVATION),)
    )
    return graph_of("swap", dtype, [(one, (0,), (1,))])
