"""Attention kernels of serving engines: attn_dtype, batch_size, isl, step, heads; prefill, decode or encoder.

A file of decode rows carries `above_dram_bw`, one of prefill rows `above_peak` with a KV dtype, one of
encoder rows no KV dtype. Decode reads step + isl keys for one query; prefill attends isl new tokens to step
cached ones, causally.

What an engine does before attention is inside the timed region. The operator of TensorRT-LLM takes one
tensor of queries, keys and values (the public collector of these tables), which a pass of its own parts,
rotates and writes to the cache; SGLang narrows all three for a cache of 8 bits. The shortest rows tell: they
take 3 to 6 us longer than those of other engines. Decode rows of TensorRT-LLM do not.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from graphs import kernels
from hwsim.engines.demand import Array
from hwsim.measurements.gemm import REPLAY
from hwsim.measurements.question import Answerable, Part, Question, Refusal, dtype_name
from hwsim.measurements.table import Rows, Table

TITLE = "attention kernels: attn_dtype, batch_size, isl, num_heads, head_dim"
NEEDS = frozenset(("attn_dtype", "batch_size", "isl", "num_heads", "head_dim"))
_COLUMNS = ("batch_size", "isl", "num_heads", "head_dim")
_MAYBE = ("step", "num_kv_heads", "window_size")


def questions(table: Table) -> Iterator[Answerable]:
    """One question per device, dtypes and kind."""
    kind = _kind(table)
    numbers = {name: table.number(name) for name in _COLUMNS} | {
        name: table.number(name, 0.0) for name in _MAYBE
    }
    engines = np.array(table.text("framework"))
    for (device, attn, cache), rows in table.groups("device", "attn_dtype", "kv_cache_dtype").items():
        label = f"{kind} attention {attn}" + (f" kv {cache}" if cache else "")
        dtype, kv = dtype_name(attn), dtype_name(cache or attn)
        if dtype is None or kv is None:
            yield Refusal(rows, f"dtype {attn!r} or {cache!r} is unknown", label)
            continue
        numbers["passes"] = _passes(engines, kind, kv)
        yield from _split(device, label, kind, dtype, kv, rows, numbers)


def _kind(table: Table) -> str:
    if not table.has("kv_cache_dtype"):
        return "encoder"
    if table.has("above_dram_bw") or table.has("above_peak"):
        return "decode" if table.has("above_dram_bw") else "prefill"
    return "decode" if np.all(table.number("isl", 1.0) == 1) else "prefill"


def _passes(engines: NDArray[np.str_], kind: str, kv: str) -> Array:
    """Passes over queries, keys and values before attention, per row of the table."""
    parted = (engines == "trtllm") & (kind != "decode")
    narrowed = (engines == "sglang") & (kv == "fp8")
    return np.asarray(parted | narrowed, dtype=np.float64)


def _split(
    device: str, label: str, kind: str, dtype: str, kv: str, rows: Rows, numbers: dict[str, np.ndarray]
) -> Iterator[Answerable]:
    """Rows with and without a window."""
    windowed = numbers["window_size"][rows] > 0
    for mask, name, some in ((~windowed, label, False), (windowed, f"{label} windowed", True)):
        chosen = rows[mask]
        if not chosen.size:
            continue
        heads, groups = numbers["num_heads"][chosen], numbers["num_kv_heads"][chosen]
        new, cached = numbers["isl"][chosen], numbers["step"][chosen]
        sizes = {
            "batch": numbers["batch_size"][chosen],
            "heads": heads,
            "kv_heads": np.where(groups > 0, groups, heads),
            "q_len": np.ones(chosen.size) if kind == "decode" else new,
            "kv_len": cached + new,
            "head_dim": numbers["head_dim"][chosen],
        } | ({"window": numbers["window_size"][chosen]} if some else {})
        graph = kernels.attention(dtype, kv, causal=kind == "prefill", windowed=some)
        parts = [Part(graph=graph, sizes=sizes)]
        passes = numbers["passes"][chosen]
        if np.any(passes):
            elements = sizes["batch"] * sizes["q_len"] * sizes["head_dim"] * (heads + 2 * sizes["kv_heads"])
            moved = {"read": elements, "written": elements}
            parts.append(Part(graph=kernels.stream("bf16"), sizes=moved, repeats=passes))
        yield Question(rows=chosen, device=device, op=name, parts=tuple(parts), protocol=REPLAY)
