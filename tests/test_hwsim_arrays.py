"""Arrays of design points: each point as if it were priced alone, whatever varies and in whatever order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hwsim
from devices import Device
from hwsim.errors import HwsimError
from hwsim.evaluate import Evaluator
from hwsim.fitted import coefficients_for
from hwsim.machine import build_machine
from hwsim.pieces import pieces
from hwsim.result import Estimate
from tests.laws import numbers, value_at
from tests.toys import NO_SOFTWARE, attention_graph, gather_graph, gemm_graph, stream_graph

DEVICES = ("h100-sxm", "l4", "tpu-v4", "groq-tsp", "raspberry-pi-4", "eyeriss-v1")
GRAPHS = {
    "gemm": (gemm_graph("fp16"), {"b": 4, "m": 300, "n": 700, "k": 500}),
    "attention": (
        attention_graph("causal", "fp16"),
        {"batch": 3, "sets": 2, "group": 4, "q": 100, "k": 900, "d": 64},
    ),
    "stream": (stream_graph("fp16"), {"e": 3_000_000}),
    "gather": (gather_graph("fp16"), {"rows": 5000, "run": 8, "t": 10_000}),
}
machines = pytest.mark.parametrize("device", DEVICES)
kinds = pytest.mark.parametrize("kind", GRAPHS)


def price(kind: str, device: str, sizes: dict[str, Any], overrides: dict[str, Any]) -> Estimate:
    result = hwsim.estimate(GRAPHS[kind][0], device, stack="engine", overrides=overrides, **sizes)
    assert isinstance(result, Estimate)
    return result


def assert_points_alone(
    kind: str, device: str, sizes: dict[str, Any], overrides: dict[str, Any], shape: tuple[int, ...]
) -> None:
    """The array's numbers equal those of its points, each priced by itself."""
    together = numbers(price(kind, device, sizes, overrides))
    for place in np.ndindex(shape):
        alone = numbers(price(kind, device, at(sizes, shape, place), at(overrides, shape, place)))
        for name, value in together.items():
            assert np.shape(value) == shape, name
            np.testing.assert_allclose(value[place], alone[name], rtol=1e-12, err_msg=name)


def at(values: dict[str, Any], shape: tuple[int, ...], place: tuple[int, ...]) -> dict[str, Any]:
    return {name: float(np.broadcast_to(value, shape)[place]) for name, value in values.items()}


@machines
@kinds
def test_every_device_field_may_be_an_array(kind: str, device: str) -> None:
    sizes = GRAPHS[kind][1]
    known = hwsim.device(device)
    for path in known.paths():
        value = value_at(known, path)
        if value is not None:
            swept = np.array([0.5, 1.0, 2.0]) * value
            assert_points_alone(kind, device, sizes, {f"device.{path}": swept}, (3,))


def test_a_field_that_no_formula_reads_gives_its_shape_all_the_same() -> None:
    swept = {"device.memory.register.capacity": np.array([1e5, 2e5, 3e5])}
    assert price("stream", "h100-sxm", {"e": 1000}, swept).latency_s.shape == (3,)


@machines
@kinds
def test_every_coefficient_may_be_an_array(kind: str, device: str) -> None:
    for name, value in coefficients_for(hwsim.device(device)).values.items():
        changes = {f"coefficient.{name}": np.array([0.4, 0.7, 1.0]) * value}
        assert_points_alone(kind, device, GRAPHS[kind][1], changes, (3,))


@machines
@kinds
def test_sizes_and_fields_broadcast_against_each_other(kind: str, device: str) -> None:
    """A column of sizes against a row of bandwidths and a plane of power limits."""
    sizes: dict[str, Any] = dict(GRAPHS[kind][1])
    first, *others = sizes
    sizes[first] = np.array([[1.0], [7.0], [64.0]])
    for name in others[:1]:
        sizes[name] = np.array([[33.0], [512.0], [4096.0]])
    limit = hwsim.device(device).power.limit_w
    overrides = {
        "device.memory.dram.bandwidth": np.array([1e10, 3e12]),
        "device.power.limit": limit * np.array([0.15, 1.0]).reshape(2, 1, 1),
    }
    assert_points_alone(kind, device, sizes, overrides, (2, 3, 2))


@machines
@kinds
@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1))
def test_random_points_equal_themselves_alone(kind: str, device: str, seed: int) -> None:
    """Few points are priced whole, many by rank or one candidate at a time: all three ways choose alike."""
    random = np.random.default_rng(seed)
    count = 600
    sizes = {name: np.floor(np.exp(random.uniform(0, np.log(2000), count))) for name in GRAPHS[kind][1]}
    if kind == "attention":
        sizes["k"] = sizes["q"] + sizes["k"]
    if random.random() < 0.5:
        sizes = {name: column if name == "batch" else column[0] for name, column in sizes.items()}
    limit = hwsim.device(device).power.limit_w
    overrides = {
        "device.memory.dram.bandwidth": np.exp(random.uniform(np.log(1e10), np.log(1e13), count)),
        "device.power.limit": limit * np.exp(random.uniform(np.log(0.1), np.log(2), count)),
    }
    together = numbers(price(kind, device, sizes, overrides))
    for place in random.integers(0, count, 5):
        alone = numbers(price(kind, device, at(sizes, (count,), (place,)), at(overrides, (count,), (place,))))
        for name, value in together.items():
            np.testing.assert_allclose(value[place], alone[name], rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("device", ["h100-sxm", "l4", "tpu-v4"])
def test_the_order_of_points_does_not_matter(device: str) -> None:
    random = np.random.default_rng(7)
    count = 6000
    sizes = {
        "b": random.choice([1.0, 4.0], count), "m": random.integers(1, 5000, count).astype(float),
        "n": random.choice([512.0, 4096.0, 11008.0], count), "k": 4096.0,
    }  # fmt: skip
    overrides = {"device.memory.dram.bandwidth": random.uniform(1e11, 5e12, count)}
    order = random.permutation(count)
    first = numbers(price("gemm", device, sizes, overrides))
    shuffled = {name: column[order] if np.ndim(column) else column for name, column in sizes.items()}
    moved = {name: column[order] for name, column in overrides.items()}
    second = numbers(price("gemm", device, shuffled, moved))
    for name, value in first.items():
        np.testing.assert_allclose(second[name], value[order], rtol=1e-12, err_msg=name)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 7000),
    distinct=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    chunk=st.sampled_from([64, 500, 8192]),
)
def test_pieces_are_all_points_once_with_the_values_they_have(
    seed: int, count: int, distinct: list[int], chunk: int
) -> None:
    random = np.random.default_rng(seed)
    sizes = {
        f"s{i}": random.choice(np.floor(random.uniform(1, 9999, kinds)), count)
        for i, kinds in enumerate(distinct)
    }
    device = hwsim.device("h100-sxm").replace(**{"memory.dram.bandwidth": random.uniform(1e12, 2e12, count)})
    machine = built(device)
    seen = np.zeros(count, dtype=int)
    for piece in pieces(sizes, machine, count, chunk):
        index = np.arange(count)[piece.index]
        assert len(index) == piece.width <= max(chunk, 1) or count == 1
        np.add.at(seen, index, 1)
        for name, column in sizes.items():
            assert np.all(np.broadcast_to(piece.sizes[name], len(index)) == column[index])
        there = np.broadcast_to(piece.machine.dram_byte_per_s, len(index))
        assert np.all(there == np.broadcast_to(machine.dram_byte_per_s, count)[index])
    assert np.all(seen == 1)


def built(device: Device) -> Any:
    return build_machine(
        device, NO_SOFTWARE, coefficients_for(device), {"matrix": {"fp16"}, "vector": {"fp16"}}
    )


def test_shapes_that_do_not_broadcast_are_refused() -> None:
    with pytest.raises(HwsimError, match="do not broadcast together"):
        price("stream", "t4", {"e": np.ones(3)}, {"device.memory.dram.bandwidth": np.full(4, 1e11)})


def test_an_array_of_one_point_keeps_its_shape() -> None:
    assert price("stream", "t4", {"e": np.array([[5.0]])}, {}).latency_s.shape == (1, 1)


def test_rows_exist_for_a_single_point_only() -> None:
    with pytest.raises(HwsimError, match="single point"):
        _ = price("stream", "t4", {"e": np.array([5.0, 6.0])}, {}).ops


@pytest.mark.needs_torch
def test_a_model_swept_over_sizes_and_bandwidth_equals_its_points() -> None:
    random = np.random.default_rng(3)
    count = 3000
    batch = random.choice([1.0, 2.0, 8.0, 64.0], count)
    context = random.integers(0, 8191, count).astype(float)
    bandwidth = random.uniform(1e11, 5e12, count)

    def decode(b: Any, c: Any, w: Any) -> dict[str, Any]:
        return numbers(
            hwsim.estimate(
                "llama-3-8b", "l4", phase="decode", batch=b, context=c, stack="engine",
                overrides={"device.memory.dram.bandwidth": w},
            )
        )  # fmt: skip

    together = decode(batch, context, bandwidth)
    for i in random.integers(0, count, 12):
        for name, value in decode(batch[i], context[i], bandwidth[i]).items():
            np.testing.assert_allclose(together[name][i], value, rtol=1e-12, err_msg=name)


def test_one_evaluator_answers_again_with_the_same_totals() -> None:
    from graphs.workload import Precision
    from hwsim.lower import lower

    table = lower(stream_graph(), Precision(), NO_SOFTWARE)
    machine = built(hwsim.device("h100-sxm"))
    evaluator = Evaluator(table, machine, {"e": np.asarray(1e6)}, 1)
    assert evaluator.totals() is evaluator.totals()
