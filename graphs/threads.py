"""The threads that torch computes with: pinned to a core each, and how long they waited for one.

Where other programs run, the scheduler may put two of torch's threads on one core, and every operator then
waits for a whole time slice. Pinned threads cannot meet. Linux tells of each thread how long it was ready to
run and had no core, so that a disturbed window shows. Other systems do neither.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

WAITING = 0.01  # of the threads' time; with more of it waiting for a core, a measurement does not count
_TASKS = Path("/proc/self/task")
_PROBE = 1 << 22  # elements; long enough to wake every thread of the pool
_PROBES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """The threads that work: whether each has a core of its own, and their ids where the system tells.

    They compute `on` a device of torch, or feed it.
    """

    count: int
    pinned: bool
    tasks: tuple[int, ...]
    on: str = "cpu"

    def waited_s(self) -> float:
        """Seconds these threads have been ready to run without a core, in sum; 0 where nobody tells."""
        return 1e-9 * sum(waited for _, waited in _times(self.tasks).values())

    def watched(self, run: Callable[[], object]) -> tuple[float, float]:
        """Seconds that a call takes until its work is done, and the share of their time that the threads
        waited for a core.
        """
        import torch

        finish = torch.get_device_module(self.on).synchronize
        waited = self.waited_s()
        start = time.perf_counter()
        run()
        finish()
        seconds = time.perf_counter() - start
        return seconds, (self.waited_s() - waited) / (seconds * self.count)


@contextmanager
def team(threads: int | None = None, on: str = "cpu") -> Iterator[Team]:
    """Use `threads` threads of torch (as many as now if None), each on a core of its own where possible, for
    work `on` a device of torch.

    Everything is as before afterwards.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    count = torch.get_num_threads()
    tasks = (threading.get_native_id(), *_workers(count - 1)) if _TASKS.is_dir() else ()
    moved = _pin(tasks) if len(tasks) == count else {}
    try:
        yield Team(count=count, pinned=bool(moved), tasks=tasks, on=on)
    finally:
        for task, cores in moved.items():
            with suppress(OSError):
                os.sched_setaffinity(task, cores)
        torch.set_num_threads(before)


def _pin(tasks: Sequence[int]) -> dict[int, set[int]]:
    """Pin each thread to a core; thread id -> cores it was allowed before. None where cores are too few."""
    if not hasattr(os, "sched_setaffinity"):
        return {}
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < len(tasks):
        return {}
    moved = {}
    for task, core in zip(tasks, cores, strict=False):
        moved[task] = os.sched_getaffinity(task)
        os.sched_setaffinity(task, {core})
    return moved


def _workers(count: int) -> list[int]:
    """The threads beside the main one that ran most while torch worked."""
    import torch

    data = torch.zeros(_PROBE)
    before = _times()
    for _ in range(_PROBES):
        data.add_(1.0)
    ran = {task: ns - before.get(task, (0, 0))[0] for task, (ns, _) in _times().items()}
    ran.pop(threading.get_native_id(), None)
    busiest = sorted(ran, key=lambda task: -ran[task])
    return [task for task in busiest[:count] if ran[task] > 0]


def _times(tasks: Sequence[int] | None = None) -> dict[int, tuple[int, int]]:
    """Nanoseconds that each thread, of these or of all, ran and waited for a core."""
    found = {}
    for task in tasks if tasks is not None else map(int, os.listdir(_TASKS)):
        with suppress(OSError, ValueError):
            ran, waited = (_TASKS / str(task) / "schedstat").read_text().split()[:2]
            found[task] = (int(ran), int(waited))
    return found
