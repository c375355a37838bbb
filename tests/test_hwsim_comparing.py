"""Comparisons: axes, curves, what is left out, and where curves cross."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import hwsim
from hwsim.axis import Axis, as_axis
from hwsim.comparison import METRICS, Curve
from hwsim.crossings import crossings
from hwsim.errors import HwsimError
from tests.estimates import bert_on

L4 = hwsim.device("l4")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("seq=128:1024", [128, 256, 512, 1024]),
        ("seq=100:1000", [100, 200, 400, 800, 1000]),  # the end belongs to it
        ("seq=1:1000:4", [1, 10, 100, 1000]),
        ("seq=1:5:16", [1, 2, 3, 4, 5]),  # whole sizes, each once
        ("batch = 4, 1,2", [1, 2, 4]),
        ("device.memory.dram.bandwidth=500GB/s:2TB/s", [5e11, 1e12, 2e12]),
        ("device.power.limit=50W,72 W", [50, 72]),
        ("coefficient.overlap=0.1,0.2", [0.1, 0.2]),
    ],
)
def test_text_gives_the_values_of_an_axis(text: str, values: list[float]) -> None:
    axis = as_axis(text, L4)
    assert axis.name == text.partition("=")[0].strip()
    assert axis.values.tolist() == pytest.approx(values)


def test_a_name_with_values_is_an_axis_too() -> None:
    assert as_axis(("seq", np.array([4, 2])), L4).values.tolist() == [2, 4]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seq", "'seq' names no values; write seq=128:4096"),
        ("=1:2", "names no values"),
        ("seq=8:2", "seq=8:2 is no range; write LOW:HIGH"),
        ("seq=0:8", "0 < LOW < HIGH"),
        ("seq=1:8:3:4", "is no range"),
        ("seq=1:8:1", "'1' is no number of steps from 2 to 10000"),
        ("seq=1:8:many", "'many' is no number of steps"),
        ("seq=1.5,2", "seq=1.5: a size is a whole number"),
        ("seq=4k", "seq=4k: a size is a whole number"),
        ("device.memory.dram.bandwidth=1:8", "'1' has no unit"),
        ("device.memory.drum.bandwidth=1TB/s:8TB/s", "l4 has no path 'memory.drum.bandwidth'; did you mean"),
        ("stack.launch=1us:8us", "cannot compare over 'stack.launch'"),
        (("seq", []), "seq has 0 values"),
        (("seq", [1, np.inf]), "finite"),
        (("seq", "many"), "is no name with values"),
        (7, "7 is no name with values"),
    ],
)
def test_what_is_no_axis_is_refused_in_one_line(text: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        as_axis(text, L4)
    assert "\n" not in str(caught.value)


SIZES = np.array([1.0, 10.0, 100.0, 1000.0])


def curve(
    device: str, law: Callable[[Any], Any], *, at: Sequence[float] = SIZES, refuses: float = -1.0
) -> Curve:
    """A curve of a latency that is written down as a formula."""

    def priced(size: Any) -> Any:
        if np.any(np.asarray(size) == refuses):
            raise HwsimError(f"batch={refuses:g} is not admitted")
        return bert_on(device, latency_s=law(np.asarray(size, dtype=float)))

    places = np.flatnonzero(np.isin(SIZES, at))
    return Curve(
        model="bert-base",
        device=device,
        name="bert-base",
        label=device,
        places=places,
        estimates=(priced(SIZES[places]),),
        excluded="",
        at=priced,
    )


def crossed(*curves: Curve, name: str = "batch", metric: str = "latency") -> Any:
    return crossings(curves, Axis(name=name, values=SIZES), METRICS[metric])


def test_a_crossing_of_sizes_is_found_to_the_next_whole_number() -> None:
    (one,), notes = crossed(curve("l4", lambda n: 1.0 * n), curve("t4", lambda n: 1.0 + n / 2))
    # n < 1 + n / 2 until n = 2, where both are even
    assert (one.before, one.at) == (2, 3)
    assert (one.winner, one.loser, one.on) == ("t4", "l4", "bert-base")
    assert (one.winner_value, one.loser_value) == (2.5, 3.0)
    assert one.fits
    assert one.text == "bert-base is faster on t4 than on l4 from batch 3 on (2.5 s against 3 s)"
    assert notes == []


def test_a_crossing_of_rates_is_found_to_a_thousandth() -> None:
    flat, rising = curve("l4", lambda n: 0 * n + 237.0), curve("t4", lambda n: 1.0 * n)
    (one,), _ = crossed(flat, rising, name="device.memory.dram.bandwidth")
    assert one.before <= 237.0 < one.at
    assert one.at / one.before <= 1.001
    assert one.winner == "l4"


def test_curves_may_cross_more_than_once() -> None:
    wave, flat = curve("l4", lambda n: 2 + np.cos(np.pi * np.log10(n))), curve("t4", lambda n: 2 + 0 * n)
    found, _ = crossed(wave, flat)
    assert [one.winner for one in found] == ["l4", "t4", "l4"]
    assert [one.at for one in found] == sorted(one.at for one in found)


def test_curves_that_touch_or_lie_on_each_other_do_not_cross() -> None:
    touching = crossed(curve("l4", lambda n: 1 + (n - 10) ** 2), curve("t4", lambda n: 1 + 0 * n))
    assert touching[0] == []
    even = crossed(curve("l4", lambda n: n), curve("t4", lambda n: n * (1 + 1e-12)))
    assert even == ([], ["for bert-base, no crossover in latency at batch 1 to 1000; best first: l4 = t4"])


def test_without_a_crossing_the_order_is_said() -> None:
    curves = curve("h100-sxm", lambda n: n), curve("t4", lambda n: 3 * n), curve("l4", lambda n: 2 * n)
    assert crossed(*curves)[1] == [
        "for bert-base, no crossover in latency at batch 1 to 1000; best first: h100-sxm, l4, t4"
    ]
    assert crossed(*curves, metric="tokens")[1] == [
        "for bert-base, no crossover in tokens at batch 1 to 1000; best first: h100-sxm, l4, t4"
    ]


def test_a_size_that_is_not_admitted_ends_the_search_with_what_is_known() -> None:
    flat, rising = curve("l4", lambda n: 0 * n + 237.0), curve("t4", lambda n: 1.0 * n, refuses=550.0)
    (one,), _ = crossed(flat, rising)
    assert (one.before, one.at) == (100, 1000)


def test_curves_meet_only_where_both_hold() -> None:
    short, long = curve("l4", lambda n: n, at=[1.0, 10.0]), curve("t4", lambda n: 50 + 0 * n)
    assert crossed(short, long)[0] == []
    apart = curve("t4", lambda n: 0 * n, at=[100.0])
    assert crossed(short, apart) == ([], [])


def twins() -> tuple[Any, Any]:
    """A machine with much bandwidth and one with much arithmetic: decode crosses as the batch grows."""
    base = hwsim.device("h100-sxm")
    slow = {f"compute.matrix.{name}": rate / 4 for name, rate in base.compute.matrix_flop_per_s.items()}
    wide = base.replace(**slow, **{"memory.dram.bandwidth": 2 * base.memory.dram.bandwidth_byte_per_s})
    return dataclasses.replace(wide, id="wide"), base


@pytest.mark.needs_torch
def test_both_sides_of_a_crossing_are_what_an_estimate_says() -> None:
    settings: dict[str, Any] = {"phase": "decode", "context": 64, "stack": "engine", "dtype": "bf16"}
    comparison = hwsim.compare("gpt2", twins(), over="batch=1:4096", **settings)
    assert comparison.crossovers
    machines = {machine.id: machine for machine in twins()}
    for one in comparison.crossovers:
        at = {
            (name, size): hwsim.estimate("gpt2", machines[name], batch=int(size), **settings).latency_s
            for name in (one.winner, one.loser)
            for size in (one.before, one.at)
        }
        assert one.at - one.before == 1
        assert at[one.winner, one.at] < at[one.loser, one.at]
        assert at[one.winner, one.before] >= at[one.loser, one.before]
        assert one.winner_value == at[one.winner, one.at]
        assert one.loser_value == at[one.loser, one.at]


@pytest.mark.needs_torch
def test_curves_hold_what_estimates_say_and_stop_at_a_models_limit() -> None:
    comparison = hwsim.compare(["bert-base", "gpt2"], "l4", over="seq=256:2048")
    bert, gpt2 = comparison.curves
    assert [one.label for one in comparison.curves] == ["bert-base", "gpt2"]
    assert bert.places.tolist() == [0, 1]
    assert gpt2.places.tolist() == [0, 1, 2]
    assert bert.excluded == "left out at seq 1024 to 2048: seq=1024 is above bert-base's limit of 512"
    alone = hwsim.estimate("gpt2", "l4", seq=np.array([256, 512, 1024]))
    for name in ("latency_s", "energy_j", "peak_memory_bytes", "tokens_per_s", "fits"):
        # a clock found among other points differs in the last digits
        np.testing.assert_allclose(getattr(gpt2, name), getattr(alone, name), rtol=1e-9, err_msg=name)
    found = comparison.array("energy")
    assert found.shape == (2, 1, 4)
    assert found.mask.tolist() == [[[False, False, True, True]], [[False, False, False, True]]]
    assert np.all(np.isfinite(found.data))
    assert "bert-base is " + bert.excluded in comparison.notes
    assert comparison.curve("gpt2", "l4") is gpt2


@pytest.mark.needs_torch
def test_a_size_of_one_is_traced_again_where_the_trace_excludes_it() -> None:
    sizes = (1, 2, 4)
    found = hwsim.compare("gpt2", "l4", over=("batch", sizes), phase="decode", context=16).curves[0]
    singly = [hwsim.estimate("gpt2", "l4", phase="decode", context=16, batch=n).latency_s for n in sizes]
    assert found.latency_s.tolist() == pytest.approx(singly, rel=1e-12)


@pytest.mark.needs_torch
def test_a_path_of_the_device_may_be_compared_over() -> None:
    over = "device.memory.dram.bandwidth=100GB/s:400GB/s"
    curve = hwsim.compare("gpt2", "l4", over=over, phase="decode").curves[0]
    for rate, latency_s in zip((1e11, 2e11, 4e11), curve.latency_s, strict=True):
        changed = {"device.memory.dram.bandwidth": rate}
        assert latency_s == pytest.approx(
            hwsim.estimate("gpt2", "l4", phase="decode", overrides=changed).latency_s, rel=1e-12
        )


@pytest.mark.needs_torch
def test_without_an_axis_every_model_is_one_point_on_every_device() -> None:
    comparison = hwsim.compare(["bert-base", "gpt2"], ["l4", "t4"], metric="memory")
    assert comparison.array().shape == (2, 2, 1)
    assert [(c.model, c.device) for c in comparison.curves] == [
        *(("bert-base", "l4"), ("bert-base", "t4"), ("gpt2", "l4"), ("gpt2", "t4")),
    ]
    assert (comparison.crossovers, comparison.axis) == ((), None)


@pytest.mark.needs_torch
def test_what_does_not_fit_stays_in_the_curve_and_is_said() -> None:
    comparison = hwsim.compare("gpt2", "coral-edge-tpu", over="batch=1:1024", phase="decode", context=1000)
    curve = comparison.curves[0]
    assert curve.places.size == 11
    assert curve.fits.tolist() == sorted(curve.fits.tolist(), reverse=True)
    assert not curve.fits[-1]
    first = int(comparison.axis.values[~curve.fits][0])
    assert f"gpt2 does not fit coral-edge-tpu at batch {first} to 1024" in comparison.notes
    assert comparison.warnings


@pytest.mark.needs_torch
def test_the_document_aligns_its_lists_with_the_values() -> None:
    document = json.loads(hwsim.compare(["bert-base", "gpt2"], ["l4", "t4"], over="seq=256:1024").to_json())
    assert document["schema"] == "hwsim.comparison/1"
    assert set(document) == {
        *("schema", "phase", "metric", "over", "against", "curves", "crossovers", "notes", "warnings"),
    }
    assert document["over"] == {"name": "seq", "values": [256.0, 512.0, 1024.0]}
    bert = document["curves"][0]
    for name in ("latency_s", "energy_j", "peak_memory_bytes", "tokens_per_s", "fits"):
        assert len(bert[name]) == 3
        assert bert[name][2] is None
    assert "limit of 512" in bert["excluded"]
    assert document["curves"][2]["excluded"] is None


@pytest.mark.needs_torch
@pytest.mark.parametrize(
    ("models", "devices", "settings", "message"),
    [
        ("gpt2", "l4", {"metric": "latenzy"}, "no metric 'latenzy'; .*did you mean 'latency'"),
        ("vit-b-16", "l4", {"metric": "tokens"}, "vit-b-16 has no tokens; compare by latency"),
        ("vit-b-16", "l4", {"over": "seq=1:64"}, "vit-b-16 in phase forward has no size 'seq'"),
        ("bert-base", "l4", {"over": "seq=1024:2048"}, "seq=1024 is above bert-base's limit of 512"),
        ("bert-base", "l4", {"over": "seq=1:64", "seq": 3}, "seq is given and compared over"),
        (["bert-base", "bert-base"], "l4", {}, "given twice"),
        ([], "l4", {}, "nothing to compare"),
    ],
)
def test_an_impossible_comparison_is_refused(
    models: Any, devices: Any, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(HwsimError, match=message):
        hwsim.compare(models, devices, **settings)


@pytest.mark.needs_torch
def test_own_models_are_called_by_their_functions_where_that_tells_them_apart(tmp_path: Any) -> None:
    text = "from torch import nn\ndef {name}():\n    return nn.Linear(8, {wide}), {{'input': ('batch', 8)}}\n"
    files = {"a.py": ("small", 4), "b.py": ("large", 8), "c.py": ("small", 16)}
    for file, (name, wide) in files.items():
        (tmp_path / file).write_text(text.format(name=name, wide=wide))
    specs = [f"{tmp_path / file}:{name}" for file, (name, _) in files.items()]
    apart = hwsim.compare(specs[:2], "l4", over="batch=8:64")
    assert [curve.label for curve in apart.curves] == ["small", "large"]
    assert [curve.model for curve in apart.curves] == specs[:2]
    assert [curve.label for curve in hwsim.compare(specs[::2], "l4").curves] == specs[::2]


def test_whole_requests_are_compared_by_what_they_say() -> None:
    found = hwsim.compare(
        "llama-3-8b", ["l4", "h100-sxm"], over="seq=512,1024", generate=16, metric="ttft", stack="engine"
    )
    alone = hwsim.request("llama-3-8b", "l4", prompt=np.array([512, 1024]), generate=16, stack="engine")
    assert found.phase == "request"
    assert found.array()[0, 0].tolist() == pytest.approx(alone.ttft_s.tolist(), rel=1e-12)
    assert found.array("tokens")[0, 0].tolist() == pytest.approx(alone.tokens_per_s.tolist(), rel=1e-12)
    longer = hwsim.compare("llama-3-8b", "l4", over="generate=16,32", seq=512, stack="engine")
    assert longer.array()[0, 0, 0] == pytest.approx(float(alone.latency_s[0]), rel=1e-12)


def test_a_time_to_the_first_token_belongs_to_a_request() -> None:
    with pytest.raises(HwsimError, match=r"no ttft.*--generate"):
        hwsim.compare("llama-3-8b", "l4", metric="ttft")


@pytest.mark.parametrize(
    ("against", "over", "message"),
    [
        ("gpt", "seq=8:16", "'gpt' is none of the two or more models to compare; .* did you mean 'gpt2'"),
        ("gpt2", None, "against needs a size to compare over"),
    ],
)
def test_what_is_set_against_is_one_of_the_models_and_needs_a_size(
    against: str, over: str | None, message: str
) -> None:
    with pytest.raises(HwsimError, match=message):
        hwsim.compare(["bert-base", "gpt2"], "l4", over=over, against=against)
