"""Operator rows summed by op, by kind or by module template."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence

from hwsim.errors import HwsimError
from hwsim.result import GroupRow, OpRow

Labelled = Iterable[tuple[str, float, int]]  # (label, part of the row's totals, runs)


def group_rows(ops: Sequence[OpRow], what: str) -> tuple[GroupRow, ...]:
    """Totals by `op` (name, dims, dtype), `kind`, `module` (template) or `phase` of a training step, longest
    first.

    A row that runs in several modules is split between them in proportion to its runs there.
    """
    if what not in _LABELS:
        near = difflib.get_close_matches(what, _LABELS, n=1)
        remedy = f"; did you mean '{near[0]}'?" if near else ""
        raise HwsimError(f"cannot group by '{what}'; use {', '.join(_LABELS)}{remedy}")
    members: dict[str, list[tuple[OpRow, float, int]]] = {}
    for row in ops:
        for label, part, runs in _LABELS[what](row):
            members.setdefault(label, []).append((row, part, runs))
    total = sum(row.latency_s for row in ops)
    groups = [_group(label, rows, total) for label, rows in members.items()]
    return tuple(sorted(groups, key=lambda group: -group.latency_s))


def longest(groups: Sequence[GroupRow], count: int) -> tuple[GroupRow, ...]:
    """The first `count` groups and one for all others, so that the sums still are those of the whole."""
    head, rest = tuple(groups[:count]), groups[count:]
    if len(rest) < 2:
        return tuple(groups)
    sums = {name: sum(getattr(group, name) for group in rest) for name in _SUMMED}
    limits = {name: sums[f"{name}_s"] for name in _LIMITS}
    others = GroupRow(label=f"{len(rest)} others", bound=_largest(limits), **sums)
    return (*head, others)


def _by_op(row: OpRow) -> Iterator[tuple[str, float, int]]:
    yield (
        " ".join(word for word in (row.name.removeprefix("aten."), row.dims, row.dtype) if word),
        1.0,
        row.count,
    )


def _by_kind(row: OpRow) -> Iterator[tuple[str, float, int]]:
    yield row.kind, 1.0, row.count


def _by_module(row: OpRow) -> Iterator[tuple[str, float, int]]:
    runs = sum(count for _, count in row.modules)
    for template, count in row.modules:
        yield template, count / runs, count


def _by_phase(row: OpRow) -> Iterator[tuple[str, float, int]]:
    yield row.phase, 1.0, row.count


_LABELS: dict[str, Callable[[OpRow], Labelled]] = {
    "op": _by_op, "kind": _by_kind, "module": _by_module, "phase": _by_phase,
}  # fmt: skip


_LIMITS = ("compute", "memory", "overhead")
_AMOUNTS = ("latency_s", "compute_s", "memory_s", "overhead_s", "energy_j", "flops", "dram_bytes")
_SUMMED = ("count", "share", *_AMOUNTS)


def _group(label: str, rows: Sequence[tuple[OpRow, float, int]], total_s: float) -> GroupRow:
    sums = {name: float(sum(getattr(row, name) * part for row, part, _ in rows)) for name in _AMOUNTS}
    return GroupRow(
        label=label,
        count=sum(runs for _, _, runs in rows),
        share=sums["latency_s"] / total_s if total_s else 0.0,
        bound=_largest({name: sums[f"{name}_s"] for name in _LIMITS}),
        **sums,
    )


def _largest(limits: dict[str, float]) -> str:
    return max(limits, key=lambda name: limits[name])
