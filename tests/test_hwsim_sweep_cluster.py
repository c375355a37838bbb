"""Sweeps on a real dask cluster of this machine: the same table as here, also when a worker is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hwsim
from hwsim import HwsimError
from tests.sweeping import assert_same, drawn, grid

distributed = pytest.importorskip("distributed")
pytestmark = [
    pytest.mark.needs_cluster,
    pytest.mark.slow,
    # sockets of workers that were killed
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Any]:
    """A scheduler and two worker processes of one thread each."""
    import dask

    # a result that only a dead worker has is asked for this long before it is priced again
    settings = {"distributed.comm.timeouts.connect": "5s", "temporary-directory": str(tmp_path)}
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
        ) as found,
    ):
        yield found


def pids(cluster: Any) -> list[int]:
    return [worker.pid for worker in cluster.workers.values()]


def test_a_cluster_gives_the_table_that_this_machine_gives(tmp_path: Path, cluster: Any) -> None:
    spec = grid(tmp_path, stack=["eager", "engine"], dtype=["own", "fp16"])
    assert_same(hwsim.sweep(spec), hwsim.sweep(spec, cluster=cluster.scheduler_address))
    here, there = tmp_path / "here", tmp_path / "there"
    hwsim.sweep(spec, out=here)
    hwsim.sweep(spec, out=there, cluster=cluster.scheduler_address)
    for path in sorted(here.glob("part-*")):
        assert path.read_bytes() == (there / path.name).read_bytes()


def test_a_worker_that_is_killed_half_way_loses_nothing(tmp_path: Path, cluster: Any) -> None:
    spec = drawn(tmp_path, 60_000, stack=["eager", "engine"], columns=["latency", "energy"])
    victim, told = pids(cluster)[0], []
    alive = [victim]

    def kill_one(done: int, total: int) -> None:
        told.append(done)
        if done > total // 2 and alive:
            os.kill(alive.pop(), signal.SIGKILL)

    found = hwsim.sweep(spec, out=tmp_path / "out", cluster=cluster.scheduler_address, progress=kill_one)
    assert told[-1] == 120_000
    assert_same(hwsim.sweep(spec), found)
    assert not alive


def test_models_are_traced_by_the_cluster(tmp_path: Path, cluster: Any) -> None:
    spec = {
        "model": ["bert-base", "vit-b-16"], "device": ["h100-sxm", "tpu-v4"], "dtype": "bf16",
        "axes": {"batch": "1:64"}, "minimize": "latency / batch",
    }  # fmt: skip
    assert_same(hwsim.sweep(spec, cluster=cluster.scheduler_address), hwsim.sweep(spec))


def test_an_address_where_nobody_listens_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(HwsimError, match=r"no dask scheduler answers at tcp://127\.0\.0\.1:9") as refused:
        hwsim.sweep(grid(tmp_path), cluster="tcp://127.0.0.1:9")
    assert "\n" not in str(refused.value)


def test_a_scheduler_without_workers_is_refused(tmp_path: Path) -> None:
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=None, host="127.0.0.1") as empty,
        pytest.raises(HwsimError, match="has no workers; start some with `dask worker"),
    ):
        hwsim.sweep(grid(tmp_path), cluster=empty.scheduler_address)


def test_a_model_that_workers_cannot_trace_is_refused_as_here(cluster: Any) -> None:
    spec = {
        "model": ["gpt2", "bert-base"],
        "phase": "decode",
        "device": "h100-sxm",
        "axes": {"batch": "1:4"},
    }
    with pytest.raises(ValueError, match="bert-base") as here:
        hwsim.sweep(spec)
    with pytest.raises(ValueError, match="bert-base") as there:
        hwsim.sweep(spec, cluster=cluster.scheduler_address)
    assert str(there.value) == str(here.value)
