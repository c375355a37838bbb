"""`hwsim.sweep`: from a spec to a table, in memory or in a directory, here or on a cluster."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hwsim.errors import HwsimError
from hwsim.sweeps.batch import Batch
from hwsim.sweeps.chunk import FEASIBLE
from hwsim.sweeps.columns import BOUND
from hwsim.sweeps.identity import document
from hwsim.sweeps.lock import locked
from hwsim.sweeps.plan import Plan
from hwsim.sweeps.planning import make_plan
from hwsim.sweeps.processes import Priced, Writer, price_here, price_in_processes, usable_processes
from hwsim.sweeps.result import SweepResult, Table
from hwsim.sweeps.spec import SweepSpec, read_spec
from hwsim.sweeps.store import begin, clear_aside, is_whole, open_result, written

Progress = Callable[[int, int], None]  # points done, points in all


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, with what became of the sweep."""


def sweep(
    spec: SweepSpec | Mapping[str, Any] | str | Path,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    workers: int | None = None,
    cluster: str | None = None,
    search: int | None = None,
    progress: Progress | None = None,
) -> SweepResult:
    """Price every point of `spec` (a TOML file, or a dict of the same keys).

    With `out` the table is written to a directory as it comes, and `resume` finishes what is there. `workers`
    processes (all cores unless given) share the work, or those of a dask `cluster`. `search` looks for good
    points in that many trials where pricing all would take too long.
    """
    checked = read_spec(spec, trials=search)
    if workers is not None and workers < 1:
        raise HwsimError(f"{workers} workers cannot price anything; give at least 1")
    with ExitStack() as stack:
        farm = None
        if cluster is not None:
            from hwsim.sweeps.cluster import connected

            farm = stack.enter_context(connected(cluster))
        plan = make_plan(checked, None if farm is None else farm.trace)
        table = table_of(plan)

        def price(numbers: Sequence[int], writer: Writer | None) -> Priced:
            if checked.search is not None:
                from hwsim.sweeps.search import price_search

                return price_search(plan, checked.search, numbers, writer)
            if farm is not None:
                return farm.price(plan, numbers, writer)
            count = usable_processes(len(numbers)) if workers is None else min(workers, len(numbers))
            if count <= 1:
                return price_here(plan, numbers, writer)
            return price_in_processes(plan, numbers, writer, count)

        started = time.perf_counter()
        if out is None:
            batches = _in_memory(price(range(len(plan.chunks)), None), plan, progress)
            return _result(plan, table, batches, time.perf_counter() - started)
        return _in_folder(plan, table, Path(out), resume, price, progress)


def table_of(plan: Plan) -> Table:
    """The columns that every batch of a plan has."""
    found = (
        *plan.shares,
        *(name for name in plan.columns if name != BOUND),
        *((FEASIBLE,) if plan.where else ()),
    )
    return Table(
        words=plan.words,
        axes=plan.axes,
        leads=tuple(axis.names[0] for axis in plan.cases[0].space.axes),
        dimensions=tuple(axis.dimension for axis in plan.cases[0].space.axes for _ in axis.names),
        numbers=(*plan.axes, *found),
        labels=(*plan.words, *((BOUND,) if BOUND in plan.columns else ())),
    )


def _in_memory(priced: Priced, plan: Plan, progress: Progress | None) -> list[Batch]:
    found: dict[int, Batch] = {}
    for number, _ in _reported(priced, plan, frozenset(), progress, found):
        assert number in found  # nothing is written, so everything is kept
    return [found[number] for number in sorted(found)]


def _in_folder(
    plan: Plan,
    table: Table,
    folder: Path,
    resume: bool,
    price: Callable[[Sequence[int], Writer | None], Priced],
    progress: Progress | None,
) -> SweepResult:
    if find_spec("pyarrow") is None:
        raise HwsimError("a sweep in a directory needs pyarrow; install hwsim[sweep]")
    described = document(plan, table)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        begin(folder, described, resume=resume)
        clear_aside(folder)
        done = frozenset(number for number in written(folder) if is_whole(folder, number))
        missing = [chunk.number for chunk in plan.chunks if chunk.number not in done]
        notes = {name: json.dumps(described[name]) for name in ("spec", "versions", "tool", "fingerprint")}
        writer = Writer(
            folder=folder, table=table, notes={f"hwsim.{name}": text for name, text in notes.items()}
        )
        started = time.perf_counter()
        try:
            for _ in _reported(price(missing, writer), plan, done, progress, None):
                pass
        except KeyboardInterrupt:
            raise Interrupted(f"stopped; {_state(folder, plan)}") from None
        except OSError as error:
            raise OSError(f"{error.strerror or error}; {_state(folder, plan)}") from error
        result = open_result(folder)
        return SweepResult(**{**vars(result), "seconds": time.perf_counter() - started})


def _state(folder: Path, plan: Plan) -> str:
    return f"{len(written(folder))} of {len(plan.chunks)} chunks are in {folder}, and --resume adds the rest"


def _reported(
    priced: Priced,
    plan: Plan,
    before: frozenset[int],
    progress: Progress | None,
    kept: dict[int, Batch] | None,
) -> Iterator[tuple[int, int]]:
    """Numbers and points of priced chunks, told to `progress` by the points of the plan."""
    sizes = [chunk.stop - chunk.start for chunk in plan.chunks]
    done, total = sum(sizes[number] for number in before), plan.points
    if progress is not None:
        progress(done, total)
    for number, rows, batch in priced:
        if kept is not None and batch is not None:
            kept[number] = batch
        done += sizes[number]
        if progress is not None:
            progress(done, total)
        yield number, rows


class Memory:
    """Batches that are kept."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self._batches = batches
        self.sizes = tuple(batch.rows for batch in batches)

    def batch(self, number: int, columns: Sequence[str] | None) -> Batch:
        return self._batches[number]


def _result(plan: Plan, table: Table, batches: Sequence[Batch], seconds: float) -> SweepResult:
    return SweepResult(
        spec=plan.document,
        table=table,
        points=sum(batch.rows for batch in batches),
        objectives=plan.objectives,
        where=plan.where,
        warnings=plan.warnings,
        seconds=seconds,
        source=Memory(batches),
    )
