"""A bar on stderr for work that takes minutes; nothing where stderr is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar() -> Iterator[Callable[[float, str], None]]:
    """`tell(fraction, what)` moves the bar; the bar is gone when the block ends."""
    if not sys.stderr.isatty():
        yield lambda done, what: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(bar_width=24), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=1.0)
        yield lambda done, what: progress.update(task, completed=done, description=what)


@contextmanager
def sweep_progress() -> Iterator[Callable[[int, int], None] | None]:
    """`tell(done, all)` in points shows how many a second and the time left; None where nobody watches."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from reports.numbers import quantity

    columns = (BarColumn(bar_width=24), TextColumn("{task.description}", markup=False), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)

        def tell(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)
            speed = progress.tasks[0].finished_speed or progress.tasks[0].speed
            rate = "" if speed is None else f", {quantity(speed, 'points/s')}"
            text = f"{quantity(done, 'points')} of {quantity(total, 'points')}{rate}"
            progress.update(task, description=text)

        yield tell
