"""Stacks: the software between graph and silicon, as data."""

from __future__ import annotations

import pytest

from devices import DeviceError, stack, stacks


def test_the_stacks_differ_where_their_names_say() -> None:
    eager, compiled, engine = stack("eager"), stack("compiled"), stack("engine")
    assert [one.id for one in stacks()] == ["compiled", "eager", "engine", "kernel"]
    assert eager.dispatch_s == 6e-6
    assert eager.dispatch_s > compiled.dispatch_s > engine.dispatch_s == 0.0
    assert (eager.passes, compiled.passes) == ((), ("fusion",))
    assert (eager.graph_capture, engine.graph_capture) == (False, True)
    assert eager.attention_kernel == "as_written"


def test_every_stack_says_that_its_numbers_are_defaults() -> None:
    """A kernel alone has no host, so its zeros need no source beyond their meaning."""
    assert all("unverified" in one.source for one in stacks() if one.id != "kernel")
    assert stack("kernel").dispatch_s == stack("kernel").launch_s == 0.0


def test_replace_takes_keys_of_the_file_or_field_names() -> None:
    eager = stack("eager")
    changed = eager.replace(dispatch="4 us", launch_s=2e-6, graph_capture=True, attention_kernel="flash")
    assert (changed.dispatch_s, changed.launch_s) == (4e-6, 2e-6)
    assert (changed.graph_capture, changed.attention_kernel) == (True, "flash")
    assert eager.dispatch_s == 6e-6


def test_replace_takes_the_text_of_a_command_line() -> None:
    changed = stack("eager").replace(passes="fusion, precision", graph_capture="true")
    assert (changed.passes, changed.graph_capture) == (("fusion", "precision"), True)
    assert stack("compiled").replace(passes="").passes == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dispach": "4 us"}, "stack 'eager': unknown key 'dispach'; did you mean 'dispatch'?"),
        ({"dispatch": "4 W"}, "stack 'eager': dispatch: '4 W' is not a second"),
        ({"dispatch": -1.0}, "stack 'eager': dispatch: '-1.0' is negative"),
        ({"dispatch": None}, "stack 'eager': dispatch: None is not a quantity"),
        ({"attention_kernel": "fast"}, "no attention kernel 'fast'; kernels are as_written, math, flash"),
        ({"passes": 3}, "passes is 3; give names"),
        ({"graph_capture": "yes"}, "graph_capture is 'yes'; it is true or false"),
    ],
)
def test_a_bad_change_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(DeviceError) as refused:
        stack("eager").replace(**changes)
    assert message in str(refused.value)


def test_an_unknown_stack_lists_those_there_are() -> None:
    with pytest.raises(
        DeviceError,
        match="no stack 'eagre'; stacks are compiled, eager, engine, kernel; did you mean 'eager'",
    ):
        stack("eagre")
