"""Prices chunks on a dask cluster that somebody runs: this machine plans, hands out, writes; workers only
price.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from graphs.ir import OperatorGraph
from hwsim.errors import HwsimError
from hwsim.sweeps.batch import Batch
from hwsim.sweeps.chunk import price_chunk
from hwsim.sweeps.plan import Plan
from hwsim.sweeps.planning import Refused
from hwsim.sweeps.processes import Priced, Writer
from hwsim.sweeps.sources import tool_hash
from hwsim.tracing import trace

AHEAD = 2  # chunks handed to each thread of the cluster beyond the one it prices
RETRIES = 10  # a chunk whose worker dies is priced again by another
PATIENCE_S = 10.0


class Farm:
    """The workers behind one scheduler."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def trace(self, wanted: Sequence[tuple[str, str]]) -> list[OperatorGraph | ValueError]:
        """Graphs of (model, phase), each traced by some worker, or why there is none."""
        futures = self._client.map(_trace, wanted, retries=RETRIES, pure=False)
        found: list[OperatorGraph | ValueError] = self._client.gather(futures)
        return found

    def price(self, plan: Plan, numbers: Sequence[int], writer: Writer | None) -> Priced:
        """Price chunks in whatever order they finish; what comes back is written here, if anywhere."""
        from distributed import KilledWorker
        from distributed.client import as_completed as completing

        # with every task, so that no worker is the only one to have it
        packed = pickle.dumps(plan, protocol=5)
        waiting = list(reversed(numbers))
        threads = sum(self._client.nthreads().values())
        finished: Any = completing([])  # type: ignore[no-untyped-call]

        def more() -> None:
            number = waiting.pop()
            finished.add(self._client.submit(_price, packed, number, retries=RETRIES, pure=False))

        while waiting and finished.count() < threads * (1 + AHEAD):
            more()
        try:
            for future in finished:
                number, batch = future.result()
                if isinstance(batch, ValueError):
                    raise batch
                future.release()
                if waiting:
                    more()
                if writer is not None:
                    writer.write(number, batch)
                yield number, batch.rows, None if writer is not None else batch
        except KilledWorker as error:
            raise HwsimError(
                f"every worker that priced one of the chunks died ({error}); give them memory"
            ) from None
        finally:
            self._client.cancel(list(finished.futures))


@contextmanager
def connected(address: str) -> Iterator[Farm]:
    """The cluster whose scheduler listens at `address`."""
    try:
        import distributed
    except ModuleNotFoundError:
        raise HwsimError("--cluster needs dask; install hwsim[cluster]") from None
    try:
        client: Any = distributed.Client(address, timeout=PATIENCE_S)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise HwsimError(
            f"no dask scheduler answers at {address} ({error}); start one with `dask scheduler`"
        ) from None
    with client:
        _check(client, address)
        yield Farm(client)


def _check(client: Any, address: str) -> None:
    """Workers there are, and they price as this machine would."""
    if not client.nthreads():
        raise HwsimError(
            f"the scheduler at {address} has no workers; start some with `dask worker {address}`"
        )
    mine, theirs = tool_hash(), client.run(_tool)
    for worker, hashed in theirs.items():
        if hashed != mine:
            raise HwsimError(
                f"worker {worker} runs another version of hwsim ({hashed}, here {mine}); use one"
            )


def _tool() -> str:
    return tool_hash()


def _trace(wanted: tuple[str, str]) -> OperatorGraph | ValueError:
    """Trace in a process of its own: a worker looks at its own frames many times a second, and tensors in a
    frame that is looked at die later than they would.
    """
    with tempfile.TemporaryDirectory(prefix="hwsim-") as folder:
        answer = Path(folder) / "answer"
        asked = [sys.executable, "-c", f"from {__name__} import answer; answer()", *wanted, str(answer)]
        paths = os.pathsep.join(path for path in sys.path if path)
        ended = subprocess.run(asked, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True)
        if not answer.exists():
            last = (ended.stderr.strip().splitlines() or ["no message"])[-1]
            return HwsimError(f"the process that traced {wanted[0]} ended with {ended.returncode}: {last}")
        found: OperatorGraph | ValueError = pickle.loads(answer.read_bytes())  # written just now, below
        return found


def answer() -> None:
    """Trace what the command line names (model, phase) into the file that it names last."""
    model, phase, path = sys.argv[1:]
    found: OperatorGraph | ValueError
    try:
        found = trace(model, phase=phase)
    except Refused as error:
        found = error
    Path(path).write_bytes(pickle.dumps(found))


@lru_cache(maxsize=2)
def _unpacked(packed: bytes) -> Plan:
    plan: Plan = pickle.loads(packed)  # from the user's own client
    return plan


def _price(packed: bytes, number: int) -> tuple[int, Batch | ValueError]:
    try:
        return number, price_chunk(_unpacked(packed), number)
    except Refused as error:  # no other worker would say otherwise
        return number, error
