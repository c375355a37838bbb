"""Single operators to time on this machine: real tensors and a call beside the graph that prices them.

The grid is powers of two and sizes between, chosen for coverage, not after any model. `cold` operands are
taken from copies that together exceed the caches, as weights of a model are; others repeat on the same data.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any, cast

from graphs import kernels
from graphs.expressions import as_expr, evaluate
from graphs.inputs import Input
from graphs.ir import OperatorGraph

if TYPE_CHECKING:
    from torch import Tensor

Shape = tuple[str | int, ...]
Sizes = Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One operator: its graph, the operands of a call as shapes over sizes, the call, and a grid of sizes.

    `stack` is what lies between call and operator: a bare call ("kernel") or modules ("eager"). An operand
    without a dtype of its own ("model") has that of the grid's point.
    """

    name: str
    graph: Callable[[str], OperatorGraph]
    operands: tuple[Input, ...]
    call: Callable[..., Any]
    grid: tuple[Mapping[str, int], ...]
    cold: bool = False
    dtypes: tuple[str, ...] = ("fp32",)
    stack: str = "kernel"


class Pool:
    """Memory filled once, from which operands are cut in turn: making each anew takes most of the time.

    `on` is a device of torch, on which all operands lie.
    """

    def __init__(self, byte: float, on: str = "cpu") -> None:
        import torch

        self.on = on
        self._data = torch.empty(int(byte / 4) + 1, device=on).uniform_(-1.0, 1.0)
        self._at = 0

    @property
    def byte(self) -> int:
        return self._data.numel() * 4

    def cut(self, shape: Sequence[int]) -> Tensor:
        """The next elements, from the start again where too few are left."""
        count = math.prod(shape)
        if count > self._data.numel():
            self._data = self._data.repeat(1 + count // self._data.numel())
        if self._at + count > self._data.numel():
            self._at = 0
        found = self._data[self._at : self._at + count].view(*shape)
        self._at += count
        return found


def operands(one: Benchmark, sizes: Sizes, dtype: Any, pool: Pool) -> list[tuple[Tensor, ...]]:
    """Operands of a call in torch's `dtype`; of a cold benchmark as many as the pool holds."""
    import torch

    generator = torch.Generator().manual_seed(0)

    def tensor(spec: Input) -> Tensor:
        shape = [int(evaluate(as_expr(size), sizes)) for size in spec.shape]
        if spec.dtype == "model":
            return pool.cut(shape) if dtype == torch.float32 else pool.cut(shape).to(dtype)
        return torch.randint(spec.low, int(sizes["table"]), shape, generator=generator).to(pool.on)

    first = tuple(map(tensor, one.operands))
    held = sum(t.numel() * t.element_size() for t in first)
    copies = max(1, pool.byte // held) if one.cold else 1
    return [first, *(tuple(map(tensor, one.operands)) for _ in range(copies - 1))]


def runner(one: Benchmark, sizes: Sizes, dtype: Any, pool: Pool) -> Callable[[], object]:
    """The call, ready to be made again and again, going round the copies of its operands."""
    turns = itertools.cycle(operands(one, sizes, dtype, pool))
    call = one.call
    return lambda: call(*next(turns))


def _all(**values: Sequence[int]) -> tuple[dict[str, int], ...]:
    """Every combination of the values of sizes."""
    return tuple(dict(zip(values, point, strict=True)) for point in itertools.product(*values.values()))


def _points(names: str, *points: tuple[int, ...]) -> tuple[dict[str, int], ...]:
    return tuple(dict(zip(names.split(), point, strict=True)) for point in points)


def _model(*shape: str | int) -> Input:
    return Input(shape, "model")


_ROWS = _points(
    "rows cols",
    (16, 256), (64, 512), (256, 320), (256, 1024), (1024, 640), (640, 2560), (2048, 1024), (2048, 4096),
)  # fmt: skip
_ELEMENTS = _points("rows cols", (16, 256), (128, 512), (640, 640), (640, 2560), (1600, 2560))
_FEW = _points("rows cols", (128, 512), (640, 2560), (1600, 2560))
_WIDE = _model("rows", "cols")
_COLUMN = _model("cols")
# An accelerator takes as long over these as a core over the plain ones, roughly.
_LARGER = {"m": 4, "n": 2, "k": 2, "b": 8, "batch": 8, "rows": 16}
_IN_ALL_DTYPES = ("linear", "matrix product", "attention", "causal")
_POINTWISE = ("relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh", "exp", "pow", "cos")


def _matrices() -> Iterator[Benchmark]:
    from torch.nn import functional as F

    linear = (_model("m", "k"), _model("n", "k"), _model("n"))
    widths = ((320, 320), (512, 1024), (1024, 1024), (640, 2560), (2560, 640), (96, 256), (1024, 4096))
    yield Benchmark(
        name="linear",
        graph=lambda dtype: kernels.gemm(dtype, bias=True),
        operands=linear,
        call=F.linear,
        grid=tuple(
            {"m": m, "k": k, "n": n}
            for m in (16, 50, 128, 256, 640, 2048)
            for k, n in widths
            if m * k * n < 3e9 and not (m == 2048 and k > 1000)
        ),
    )
    narrow = ((512, 512), (1024, 1024), (2048, 2048), (1024, 4096), (4096, 1024), (640, 16000))
    yield Benchmark(
        name="linear, cold",
        graph=lambda dtype: kernels.gemm(dtype, bias=True),
        operands=linear,
        call=F.linear,
        grid=tuple(
            {"m": m, "k": k, "n": n} for m in (1, 2, 8, 32, 128) for k, n in narrow if m < 128 or n < 9e3
        ),
        cold=True,
    )
    yield Benchmark(
        name="matrix product",
        graph=lambda dtype: kernels.gemm(dtype, batched=True),
        operands=(_model("b", "m", "k"), _model("b", "k", "n")),
        call=lambda left, right: left @ right,
        grid=_points(
            "b m n k",
            (8, 128, 128, 64), (8, 320, 320, 64), (8, 320, 64, 320), (16, 64, 64, 32), (96, 64, 64, 32),
            (96, 64, 32, 64), (8, 1, 320, 64), (8, 1, 64, 320), (4, 640, 640, 128), (4, 320, 64, 64),
        ),
    )  # fmt: skip
    yield Benchmark(
        name="linear, half precision",
        graph=lambda dtype: kernels.gemm(dtype, bias=True),
        operands=linear,
        call=F.linear,
        grid=_points(
            "m k n", (1, 1024, 1024), (16, 1024, 1024), (128, 512, 1024), (640, 1024, 1024), (256, 640, 2560)
        ),
        dtypes=("bf16",),
    )


def _attentions() -> Iterator[Benchmark]:
    from torch.nn import functional as F

    keys = _model("batch", "kv_heads", "kv_len", "head_dim")
    query = _model("batch", "heads", "q_len", "head_dim")

    def points(*rows: tuple[int, ...]) -> tuple[dict[str, int], ...]:
        plain = _points("batch heads q_len kv_len head_dim", *rows)
        return tuple({**one, "kv_heads": one["heads"]} for one in plain)

    for causal in (False, True):
        yield Benchmark(
            name="causal attention" if causal else "attention",
            graph=partial(kernels.attention, causal=causal),
            operands=(query, keys, keys),
            call=partial(F.scaled_dot_product_attention, is_causal=causal),
            grid=points(
                (1, 8, 128, 128, 64), (1, 8, 320, 320, 64), (1, 8, 640, 640, 64), (1, 16, 320, 320, 32),
                (4, 8, 256, 256, 128), (8, 8, 96, 96, 64), (64, 4, 64, 64, 32), (1, 8, 1280, 1280, 64),
            ),
        )  # fmt: skip
    yield Benchmark(
        name="attention of one token",
        graph=lambda dtype: kernels.attention(dtype),
        operands=(query, keys, keys),
        call=F.scaled_dot_product_attention,
        grid=points((1, 8, 1, 128, 64), (1, 8, 1, 640, 64), (1, 16, 1, 2048, 64), (8, 8, 1, 320, 64),
                    (4, 8, 1, 1024, 128)),
    )  # fmt: skip


def _convolutions() -> Iterator[Benchmark]:
    from torch.nn import functional as F

    names = "batch c_in c_out kernel in_size stride padding"
    rows = (
        (1, 3, 512, 16, 256, 16, 0), (4, 3, 256, 32, 256, 32, 0), (1, 3, 128, 4, 256, 4, 0),
        (1, 64, 64, 3, 64, 1, 1), (2, 128, 128, 3, 32, 1, 1), (1, 128, 256, 1, 32, 1, 0),
        (1, 3, 64, 7, 128, 2, 3),
    )  # fmt: skip
    for row in rows:
        stride, padding = row[-2:]
        yield Benchmark(
            name="convolution",
            graph=kernels.convolution,
            operands=(
                _model("batch", "c_in", "in_size", "in_size"),
                _model("c_out", "c_in", "kernel", "kernel"),
            ),
            call=partial(F.conv2d, stride=stride, padding=padding),
            grid=_points(names, row),
        )


def _rows() -> Iterator[Benchmark]:
    import torch
    from torch.nn import functional as F

    for name, count, call in (
        ("norm", 2, lambda x, w, b: F.layer_norm(x, w.shape, w, b)),
        ("rms_norm", 1, lambda x, w: F.rms_norm(x, w.shape, w)),
        ("softmax", 0, lambda x: torch.softmax(x, -1)),
    ):
        yield Benchmark(
            name=name,
            graph=partial(kernels.elementwise, name, operands=1),
            operands=(_WIDE, *(_COLUMN,) * count),
            call=call,
            grid=_ROWS,
        )
    yield Benchmark(
        name="reduce",
        graph=kernels.reduction,
        operands=(_WIDE,),
        call=lambda x: x.mean(-1),
        grid=_FEW,
    )


def _elements() -> Iterator[Benchmark]:
    import torch
    from torch.nn import functional as F

    calls: dict[str, Callable[..., Any]] = {
        "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
        "pow": lambda x: torch.pow(x, 3.0),
        "gelu": F.gelu, "silu": F.silu, "relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh,
        "exp": torch.exp, "cos": torch.cos,
    }  # fmt: skip
    for name in _POINTWISE:
        yield Benchmark(
            name=name,
            graph=partial(kernels.elementwise, name, operands=1),
            operands=(_WIDE,),
            call=calls[name],
            grid=_ELEMENTS if name == "relu" else _FEW,
        )
    for name, call in (("add", torch.add), ("mul", torch.mul)):
        yield Benchmark(
            name=name,
            graph=partial(kernels.elementwise, name, operands=2),
            operands=(_WIDE, _WIDE),
            call=call,
            grid=_ELEMENTS,
        )
    yield Benchmark(
        name="large result",
        graph=partial(kernels.elementwise, "relu", operands=1),
        operands=(_WIDE,),
        call=torch.relu,
        grid=_points("rows cols", (2560, 4096), (4096, 5120)),
    )
    yield Benchmark(
        name="add, cold",
        graph=lambda dtype: kernels.elementwise("add", dtype, 2),
        operands=(_WIDE, _WIDE),
        call=torch.add,
        grid=_FEW,
        cold=True,
    )


def _moves() -> Iterator[Benchmark]:
    import torch
    from torch.nn import functional as F

    yield Benchmark(
        name="copy",
        graph=lambda dtype: kernels.elementwise("copy", dtype, 1),
        operands=(_WIDE,),
        call=torch.clone,
        grid=_ELEMENTS,
    )
    yield Benchmark(
        name="copy of swapped dimensions",
        graph=kernels.swap,
        operands=(_model("batch", "rows", "heads", "cols"),),
        call=lambda x: x.transpose(1, 2).contiguous(),
        grid=_points(
            "batch rows heads cols", (1, 128, 8, 64), (1, 640, 8, 64), (8, 320, 8, 64), (16, 64, 4, 32)
        ),
    )
    yield Benchmark(
        name="lookup",
        graph=kernels.lookup,
        operands=(_model("table", "cols"), Input(("rows",), "int64")),
        call=lambda table, index: F.embedding(index, table),
        grid=_points("table rows cols", (20000, 128, 512), (20000, 1024, 640), (2000, 64, 320)),
    )


def _modules() -> Iterator[Benchmark]:
    """A block so small that only the way to its operators takes time."""
    from torch import nn

    from graphs.layers import MLP, Attention
    from graphs.own import trace_own

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norms = nn.ModuleList(nn.LayerNorm(16) for _ in range(2))
            self.attention, self.mlp = Attention(16, 2), MLP(16, 32, "gelu")

        def forward(self, x: Tensor) -> Tensor:
            x = x + self.attention(self.norms[0](x))[0]
            return x + cast("Tensor", self.mlp(self.norms[1](x)))

    @cache
    def graph(dtype: str) -> OperatorGraph:
        return trace_own(Block(), {"x": ("batch", "seq", 16)}, sizes={"batch": 1, "seq": 4}, dtype=dtype)

    yield Benchmark(
        name="small block",
        graph=graph,
        operands=(_model("batch", "seq", 16),),
        call=Block().eval(),
        grid=_points("batch seq", (1, 4), (2, 8)),
        stack="eager",
    )


def accelerator_benchmarks() -> list[Benchmark]:
    """Those for a device that a host feeds: the same operators at sizes that outlast their launch, products
    and attention in the narrow dtypes, too.
    """
    found = []
    for one in benchmarks():
        if one.stack != "kernel" or one.name == "large result":
            continue
        dtypes = ("fp32", "bf16", "fp16") if one.name.startswith(_IN_ALL_DTYPES) else ("bf16",)
        larger = {name: size for name, size in _LARGER.items() if not (one.cold and name == "m")}
        grid = tuple({name: size * larger.get(name, 1) for name, size in at.items()} for at in one.grid)
        found.append(replace(one, grid=grid, dtypes=dtypes))
    return found


def benchmarks() -> list[Benchmark]:
    """All of them."""
    families = (_matrices, _attentions, _convolutions, _rows, _elements, _moves, _modules)
    return [one for family in families for one in family()]
