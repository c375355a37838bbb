"""What a comparison runs over: a size of the model or a path of the device, and its values.

`seq=128:131072` doubles from end to end, `seq=128:4096:16` takes 16 values of equal ratio, `batch=1,2,4`
is a list.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from devices import Device, format_quantity, parse_quantity
from devices.errors import near
from devices.paths import paths
from hwsim.engines.demand import Array
from hwsim.errors import HwsimError

MOST = 10_000


@dataclass(frozen=True, eq=False, kw_only=True)
class Axis:
    """Increasing values of one name: whole numbers for sizes, SI values for `device.` paths."""

    name: str
    values: Array
    dimension: str = "number"

    @property
    def whole(self) -> bool:
        return "." not in self.name

    def written(self, value: float) -> str:
        """The value with its unit."""
        return f"{value:.0f}" if self.whole else format_quantity(value, self.dimension)


def as_axis(over: Any, device: Device) -> Axis:
    """The axis of text such as `seq=128:131072` or of a name with values; `device` knows the units."""
    if isinstance(over, str):
        name, equals, text = (part.strip() for part in over.partition("="))
        if not (name and equals and text):
            raise HwsimError(f"'{over}' names no values; write seq=128:4096, seq=128:4096:16 or batch=1,2,4")
        dimension = _dimension(name, device)
        return _axis(name, dimension, _read(name, text, lambda part: _number(name, part, dimension)))
    try:
        name, values = over
        found = np.asarray(values, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError) as error:
        raise HwsimError(f'{over!r} is no name with values; write ("seq", [128, 256])') from error
    return _axis(name, _dimension(name, device), found)


def _dimension(name: str, device: Device) -> str:
    """Of a path of the device; everything else is a number."""
    room, dot, path = name.partition(".")
    if not dot or room == "coefficient":
        return "number"
    if room != "device":
        raise HwsimError(f"cannot compare over '{name}'; take a size of the model or a device. path")
    known = paths(device)
    if path not in known:
        raise HwsimError(f"{device.id} has no path '{path}'{near(path, known)}")
    return known[path].dimension


def _number(name: str, text: str, dimension: str) -> float:
    if "." not in name and not text.isdigit():
        raise HwsimError(f"{name}={text}: a size is a whole number")
    return parse_quantity(text, dimension)


def _read(name: str, text: str, number: Callable[[str], float]) -> Array:
    if ":" not in text:
        return np.asarray([number(part.strip()) for part in text.split(",")])
    first, last, *steps = (part.strip() for part in text.split(":"))
    low, high = number(first), number(last)
    if not 0 < low < high or len(steps) > 1:
        raise HwsimError(
            f"{name}={text} is no range; write LOW:HIGH or LOW:HIGH:STEPS with 0 < LOW < HIGH, or list values"
        )
    if not steps:
        # the upper end belongs to the range, also where doubling does not meet it
        return np.asarray([*_doubling(low, high), high])
    if not (steps[0].isdigit() and 2 <= int(steps[0]) <= MOST):
        raise HwsimError(f"{name}={text}: '{steps[0]}' is no number of steps from 2 to {MOST}")
    return np.geomspace(low, high, int(steps[0]))


def _doubling(low: float, high: float) -> Sequence[float]:
    values = []
    while low < high:
        values.append(low)
        low *= 2
    return values


def _axis(name: str, dimension: str, values: Array) -> Axis:
    if not values.size or values.size > MOST or not np.all(np.isfinite(values)):
        raise HwsimError(f"{name} has {values.size} values to compare over; give 1 to {MOST} finite ones")
    rounded = values if "." in name else np.round(values)
    return Axis(name=name, values=np.unique(rounded), dimension=dimension)
