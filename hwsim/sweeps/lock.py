"""One sweep at a time in a directory: a lock file that names its owner and that the system frees when it
dies.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hwsim.errors import HwsimError

NAME = "lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the directory, or say who does. What a killed sweep left behind is taken over."""
    path = folder / NAME
    with path.open("a+", encoding="utf-8") as file:
        if not _take(file.fileno()):
            file.seek(0)
            owner = file.read().strip() or "another process"
            raise HwsimError(f"{folder} is being written by {owner}; wait for it, or choose another --out")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
        # emptied, not removed: somebody may already be waiting at this very file
        file.truncate(0)


def _take(descriptor: int) -> bool:
    """Lock an open file for this process; the lock ends with the process, however it ends."""
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
