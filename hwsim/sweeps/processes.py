"""Prices chunks in this process, or in several that each own whole chunks."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Any

from hwsim.errors import HwsimError
from hwsim.sweeps.batch import Batch
from hwsim.sweeps.chunk import price_chunk
from hwsim.sweeps.plan import Plan
from hwsim.sweeps.result import Table
from hwsim.sweeps.sources import tool_hash
from hwsim.sweeps.store import write_part

AHEAD = 2  # chunks handed to each process beyond the one it prices
WORTHWHILE = 4  # chunks from which further processes pay for their start
Priced = Iterator[tuple[int, int, Batch | None]]  # number, points, and the batch unless it is written


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """Where batches go when a sweep has a directory."""

    folder: Path
    table: Table
    notes: dict[str, str]

    def write(self, number: int, batch: Batch) -> None:
        write_part(self.folder, number, batch, self.table, {**self.notes, "hwsim.chunk": str(number)})


def price_here(plan: Plan, numbers: Sequence[int], writer: Writer | None) -> Priced:
    """Price chunks one after the other."""
    for number in numbers:
        yield number, *_priced(plan, number, writer)


def _priced(plan: Plan, number: int, writer: Writer | None) -> tuple[int, Batch | None]:
    batch = price_chunk(plan, number)
    if writer is None:
        return batch.rows, batch
    writer.write(number, batch)
    return batch.rows, None


def price_in_processes(plan: Plan, numbers: Sequence[int], writer: Writer | None, count: int) -> Priced:
    """Price chunks in `count` processes, in whatever order they finish."""
    pool = ProcessPoolExecutor(
        count, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(plan, writer, tool_hash())
    )
    waiting = list(reversed(numbers))
    running: dict[Future[tuple[int, Batch | None]], int] = {}
    done_any = False
    try:
        while waiting or running:
            with _without_interrupts():  # processes are started here, and inherit it
                while waiting and len(running) < count * (1 + AHEAD):
                    number = waiting.pop()
                    running[pool.submit(_price_mine, number)] = number
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                number = running.pop(done)
                result = done.result()
                done_any = True
                yield number, *result
    except BrokenProcessPool:
        if not done_any:
            raise HwsimError(
                "worker processes could not start; in a script, call sweep under "
                "`if __name__ == '__main__':`, or pass workers=1"
            ) from None
        raise ChildProcessError("a worker process was killed, perhaps for want of memory") from None
    finally:
        # what is being priced is finished, and its file is whole
        pool.shutdown(wait=True, cancel_futures=True)


def usable_processes(chunks: int) -> int:
    """As many processes as cores, or one where more would not pay or could not be started."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if chunks < WORTHWHILE or not _main_can_be_imported():
        return 1
    return min(cores, chunks)


def _main_can_be_imported() -> bool:
    """Further processes import the main script; one that does not ask for its name would run
    again in each.
    """
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    if path is None or multiprocessing.parent_process() is not None:
        return path is None and multiprocessing.parent_process() is None
    try:
        return "__main__" in Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Ctrl-C reaches every process of a terminal; only the first one shall answer it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_MINE: dict[str, Any] = {}


def _begin(plan: Plan, writer: Writer | None, tool: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _MINE.update(plan=plan, writer=writer, tool=tool)
    parent = multiprocessing.parent_process()
    assert parent is not None  # this runs in a process that was started
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: Any) -> None:
    """A process whose parent was killed would wait for work for ever."""
    wait_for([sentinel])
    os._exit(1)


def _price_mine(number: int) -> tuple[int, Batch | None]:
    if tool_hash() != _MINE["tool"]:
        raise HwsimError("hwsim's own sources changed while a sweep was starting; start it again")
    return _priced(_MINE["plan"], number, _MINE["writer"])
