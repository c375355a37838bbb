"""Measured beside predicted as tables of 80 columns, for whole workloads and by operator kind."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from hwsim.errors import HwsimError
from hwsim.validation import KindRow, OperatorRow, Validation, ValidationRow
from reports.numbers import UNKNOWN, byte_count, percent, seconds, significant
from reports.table import plain_table

_SIZES = ("batch", "seq", "context", "source", "frames", "image")
_SMALL_S = 1e-5  # a kind below this on both sides is only noise


def validation_tables(validation: Validation) -> RenderableType:
    """The machine, the workloads with their scores, then the kinds of each workload and of all."""
    parts: list[RenderableType] = [Text(line) for line in _head(validation)]
    parts += [Text(), _workloads(validation.rows)]
    parts += [Text(line) for line in _scores(validation)]
    for row in validation.rows:
        parts += [Text(), Text(f"{row.model} by kind: {workload_text(row)}"), _kinds(row)]
    if validation.worst:
        parts += [Text(), *_worst(validation)]
    if validation.by_operator:
        title = "operators by kind, each size of each workload once"
        parts += [Text(), Text(title), _operator_scores(validation)]
    if len(validation.rows) > 1:
        parts += [Text(), Text("by kind over all workloads"), _kind_scores(validation)]
    return Group(*parts)


def workload_text(row: ValidationRow) -> str:
    """`prefill, batch 1, seq 512, bf16`."""
    sizes = [f"{name} {significant_size(value)}" for name, value in _in_order(row).items()]
    return ", ".join([row.phase, *sizes, row.dtype])


def significant_size(value: float) -> str:
    """A whole number without decimals; expected counts may be fractional."""
    return str(int(value)) if float(value).is_integer() else significant(value)


def signed_percent(fraction: float | None) -> str:
    """With its sign, so that too fast and too slow differ."""
    if fraction is None:
        return UNKNOWN
    return f"{'+' if fraction >= 0 else '-'}{percent(abs(fraction))}"


def predictions_csv(validation: Validation, sizes: Sequence[str] = ()) -> str:
    """One line per workload in the common measurement layout, the prediction behind it.

    With `sizes` these have columns and others are left out; else every size of any workload has one.
    """
    named = sizes or list(dict.fromkeys(name for row in validation.rows for name in _in_order(row)))
    columns = ["model", "mode", *named, "dtype", "device", "stack", "latency_us", "repeatability"]
    columns += ["windows", "discarded", "predicted_us", "low_us", "high_us", "note"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(_record(validation, row) for row in validation.rows)
    return text.getvalue()


def save_measurements(validation: Validation, path: Path) -> None:
    """Append what was measured to a table in the common layout, made where there is none."""
    header, _, lines = predictions_csv(validation, sizes=_SIZES).partition("\n")
    if not path.is_file() or not path.stat().st_size:
        path.write_text(f"{header}\n{lines}", encoding="utf-8")
        return
    before = path.read_text(encoding="utf-8")
    if before.partition("\n")[0] != header:
        raise HwsimError(f"{path} is a table of other columns; give --save a new file")
    path.write_text(before + lines, encoding="utf-8")


def _record(validation: Validation, row: ValidationRow) -> dict[str, Any]:
    return {
        "model": row.model,
        "mode": row.phase,
        **{name: significant_size(value) for name, value in row.sizes.items()},
        "dtype": row.dtype,
        "device": validation.host.cpu,
        "stack": validation.stack,
        "latency_us": _microseconds(row.measured_s),
        "repeatability": "" if row.repeatability is None else f"{row.repeatability:.4f}",
        "windows": row.windows,
        "discarded": row.discarded,
        "predicted_us": _microseconds(row.predicted_s),
        "low_us": _microseconds(row.low_s),
        "high_us": _microseconds(row.high_s),
        "note": row.note,
    }


def _microseconds(value: float | None) -> str:
    return "" if value is None else f"{1e6 * value:.3f}"


def _in_order(row: ValidationRow) -> dict[str, float]:
    first = {name: row.sizes[name] for name in _SIZES if name in row.sizes}
    return {**first, **row.sizes}


def _head(validation: Validation) -> list[str]:
    host, protocol = validation.host, validation.protocol
    tier = {"datasheet": "datasheet only, uncalibrated"}.get(validation.tier, validation.tier)
    return [
        f"measured on {host.cpu}, {host.cores} cores, {byte_count(host.memory_byte)} of RAM",
        host.system,
        f"torch {host.torch}, {host.threads} threads, {validation.stack}",
        f"{protocol.rounds} rounds, best canary {seconds(protocol.canary_s)}; "
        f"other programs took {percent(protocol.others_share)} of the CPU",
        f"predicted for {validation.device}: {tier}",
        *(f"energy not measured, {why}" for why in protocol.unmetered),
    ]


def _workloads(rows: Sequence[ValidationRow]) -> RenderableType:
    calibrated = any(row.prior_s for row in rows)
    columns = ["model", "workload", ">measured", ">repeat.", ">windows", ">predicted", ">error"]
    table = plain_table(*columns, *([">before"] if calibrated else []), gap=1)
    for row in rows:
        before = [signed_percent(row.prior_error)] if calibrated else []
        table.add_row(
            Text(row.model),
            Text(_short(row)),
            seconds(row.measured_s),
            percent(row.repeatability),
            f"{row.windows - row.discarded}/{row.windows}",
            seconds(row.predicted_s),
            signed_percent(row.error),
            *before,
        )
    return table


def _short(row: ValidationRow) -> str:
    """`forward 1x512 fp32`: batch, then the other whole sizes; in full above the table by kind."""
    sizes = [significant_size(v) for v in _in_order(row).values() if float(v).is_integer()]
    return " ".join([row.phase, *filter(None, ["x".join(sizes[:3])]), row.dtype])


def _scores(validation: Validation) -> list[str]:
    found = validation.overall
    order = "" if found.spearman is None else f", Spearman {found.spearman:.2f}"
    return [
        "windows: with a quiet canary / all; repeat.: spread of the rounds' medians",
        f"{found.predicted} of {found.rows} compared: MAPE {percent(found.mape)}, "
        f"median {percent(found.median_ape)}, bias {signed_percent(found.bias)}{order}",
        f"inside the 80 % interval: {percent(found.coverage)}",
        *_before(validation),
        *(line for row in validation.rows for line in _energy(row)),
        *(f"{row.model}: {row.note}" for row in validation.rows if row.note),
    ]


def _energy(row: ValidationRow) -> Iterator[str]:
    """Joules of a run by part of the machine."""
    if row.energy_j is not None:
        yield f"{row.model}: {row.energy_j:.3g} J measured, {row.predicted_energy_j or 0.0:.3g} J predicted"
    if row.gpu_energy_j is not None:
        yield f"{row.model}: {row.gpu_energy_j:.3g} J in the GPUs beside it, which it does not use"


def _before(validation: Validation) -> list[str]:
    found = validation.before
    if found is None:
        return []
    return [f"before calibration: MAPE {percent(found.mape)}, bias {signed_percent(found.bias)}"]


def _worst(validation: Validation) -> list[RenderableType]:
    """The operators furthest off: seconds a run on both sides, and the rate that was reached."""
    lines: list[RenderableType] = [Text("operators furthest off, as a share of their run")]
    for row, one in validation.worst:
        share = percent(abs(one.gap_s) / row.profiled_s)
        sides = f"{seconds(one.measured_s)} measured, {seconds(one.predicted_s)} predicted"
        lines.append(Text(f"{row.model} {operator_text(one)}"))
        lines.append(Text(f"  {sides}, {share} of the run; {one.told}"))
    return lines


def operator_text(one: OperatorRow) -> str:
    """`addmm b=1 m=512 n=768 k=768, 48 runs`."""
    name = one.name.replace("::", ".").removeprefix("aten.")
    return f"{name} {one.dims}, {one.measured_count} runs"


def _operator_scores(validation: Validation) -> RenderableType:
    table = plain_table("kind", ">operators", ">runs", ">profiled", ">MAPE", ">median", ">bias", gap=2)
    for kind, found in validation.by_operator.items():
        both = [one for row in validation.rows for one in row.operators if one.kind == kind and one.pair]
        table.add_row(
            Text(kind),
            str(found.predicted),
            str(sum(one.measured_count for one in both)),
            seconds(sum(one.measured_s or 0.0 for one in both)),
            percent(found.mape),
            percent(found.median_ape),
            signed_percent(found.bias),
        )
    return table


def _kinds(row: ValidationRow) -> RenderableType:
    columns = ("kind", ">runs", ">profiled", ">share", ">predicted", ">share", ">error")
    table = plain_table(*columns, gap=2)
    for one in row.kinds:
        if max(one.measured_s or 0.0, one.predicted_s or 0.0) < _SMALL_S:
            continue
        table.add_row(
            Text(one.kind),
            _runs(one),
            seconds(one.measured_s),
            _share(one.measured_s, row.profiled_s),
            seconds(one.predicted_s),
            _share(one.predicted_s, row.predicted_s),
            signed_percent(one.error),
        )
    table.add_row("all", "", seconds(row.profiled_s), "", seconds(row.predicted_s), "", "")
    lines = [f"80 % interval of the prediction: {seconds(row.low_s)} to {seconds(row.high_s)}"]
    if not row.profile_quiet:
        lines.append("the machine was busy while this was profiled, so kinds cannot be compared")
    return Group(table, *map(Text, lines))


def _runs(one: KindRow) -> str:
    """How often it ran; where the graph says otherwise, `profiled (graph)`."""
    if one.predicted_s is None or one.measured_count == one.predicted_count:
        return str(one.measured_count)
    return f"{one.measured_count} ({one.predicted_count})"


def _share(part_s: float | None, whole_s: float) -> str:
    return UNKNOWN if part_s is None else percent(part_s / whole_s)


def _kind_scores(validation: Validation) -> RenderableType:
    table = plain_table("kind", ">workloads", ">profiled", ">predicted", ">MAPE", ">bias", gap=2)
    for kind, found in validation.by_kind.items():
        if not found.predicted:
            continue
        rows = [one for row in validation.rows for one in row.kinds if one.kind == kind]
        both = [one for one in rows if one.error is not None]
        table.add_row(
            Text(kind),
            str(found.predicted),
            seconds(sum(one.measured_s or 0.0 for one in both)),
            seconds(sum(one.predicted_s or 0.0 for one in both)),
            percent(found.mape),
            signed_percent(found.bias),
        )
    return table
