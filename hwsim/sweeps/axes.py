"""Numeric axes: the values of a list or range, or the quantiles of a range that samples are drawn from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from devices import Device, DeviceError, parse_quantity
from devices.errors import near
from devices.paths import Leaf, paths
from devices.stack import QUANTITIES as STACK_QUANTITIES
from hwsim.engines.demand import Array
from hwsim.errors import HwsimError

if TYPE_CHECKING:
    from hwsim.sweeps.spec import AxisSpec

MOST = 100_000_000  # values of one axis; they are held in memory


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Axis:
    """Several names that take the same value at every point; `values` of a grid, or ends to draw between.

    With `times` the values multiply what the device of the case has.
    """

    names: tuple[str, ...]
    dimension: str = "number"
    values: Array | None = None
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    multiple: float = 0.0  # values are multiples of this; 0 leaves them real
    times: bool = False

    @property
    def distinct(self) -> float:
        """How many values there are; infinite when real numbers are drawn."""
        if self.values is not None:
            return self.values.size
        return (self.high - self.low) / self.multiple + 1 if self.multiple else math.inf

    def quantile(self, share: Array) -> Array:
        """The values below which `share` of the samples lie; multiples within the range are
        equally likely.
        """
        low, high = self.low, self.high
        if self.multiple:
            low, high = math.ceil(low / self.multiple), math.floor(high / self.multiple) + 1
        if self.log:
            drawn = np.exp(math.log(low) + share * (math.log(high) - math.log(low)))
        else:
            drawn = low + share * (high - low)
        if self.multiple:
            return np.asarray(np.clip(np.floor(drawn), low, high - 1) * self.multiple)
        return np.asarray(np.clip(drawn, low, high))


def numeric_axis(key: str, spec: AxisSpec, device: Device) -> Axis:
    """The axis of one entry of a spec, `key` being one name or several with commas between; units as of
    `device`.
    """
    names = tuple(name.strip() for name in key.split(",") if name.strip())
    dimensions = {dimension(name, device) for name in names}
    if len(dimensions) != 1:
        raise HwsimError(f"axis '{key}' joins names of different units; give each its own axis")
    (unit,) = dimensions

    def number(value: Any) -> float:
        return _number(key, value, "number" if spec.times else unit)

    multiple = _multiple(names, unit, spec)
    log = spec.scale == "log"
    if spec.values is not None:
        values = np.array([number(value) for value in spec.values])
        return Axis(names=names, dimension=unit, values=values, times=spec.times)
    low, high = number(spec.start), number(spec.stop)
    if not low < high or (low <= 0 and (log or spec.doubling)):
        above = "0 < from < to" if log or spec.doubling else "from < to"
        raise HwsimError(
            f"axis '{key}' runs from {_written(spec.start)} to {_written(spec.stop)}; it needs {above}"
        )
    if spec.sampled:
        if multiple and math.floor(high / multiple) < math.ceil(low / multiple):
            raise HwsimError(f"axis '{key}' has no multiple of {multiple:g} from {low:g} to {high:g}")
        return Axis(
            names=names, dimension=unit, low=low, high=high, log=log, multiple=multiple, times=spec.times
        )
    step = None if spec.step is None else number(spec.step)
    values = _range(key, low, high, step, spec)
    if multiple:
        values = np.unique(np.maximum(np.round(values / multiple), 1 if low > 0 else 0) * multiple)
    return Axis(names=names, dimension=unit, values=values, times=spec.times)


def dimension(name: str, device: Device) -> str:
    """What unit the values of a name have: of a path of the device, of a key of the stack, else a plain
    number.
    """
    room, dot, path = name.partition(".")
    if not dot or room == "coefficient":
        return "number"
    if room == "stack":
        if path not in STACK_QUANTITIES:
            raise HwsimError(f"no number '{path}' in a stack{near(path, STACK_QUANTITIES)}")
        return STACK_QUANTITIES[path][1]
    if room != "device":
        raise HwsimError(
            f"no axis '{name}'; take a size of the model or a device., stack. or coefficient. path"
        )
    known = paths(device)
    if path not in known:
        raise HwsimError(f"{device.id} has no path '{path}'{near(path, known)}")
    return known[path].dimension


def device_value(device: Device, path: str) -> float:
    """What a device has at a path, as a number."""
    leaf: Leaf = paths(device)[path]
    value: Any = device
    for step in leaf.steps:
        value = value.get(step) if isinstance(value, Mapping) else getattr(value, step)
    if value is None:
        raise HwsimError(
            f"{device.id} does not say its {path}, so nothing can be a multiple of it; list values"
        )
    return float(value)


def _multiple(names: tuple[str, ...], unit: str, spec: AxisSpec) -> float:
    """Sizes and numbers of parts are whole unless the spec says otherwise or an end is not."""
    countable = all("." not in name or name.startswith("device.") for name in names) and unit == "number"
    ends = [value for value in (spec.start, spec.stop) if value is not None]
    fractions = any(isinstance(value, float) and not value.is_integer() for value in ends)
    whole = countable and not fractions and not spec.times if spec.whole is None else spec.whole
    return float(spec.multiple) if whole or spec.multiple > 1 else 0.0


def _range(key: str, low: float, high: float, step: float | None, spec: AxisSpec) -> Array:
    if spec.doubling:
        doublings = math.ceil(math.log2(high / low) - 1e-12)
        # the upper end belongs to the range, also where doubling does not meet it
        return np.append(low * 2.0 ** np.arange(doublings), high)
    if step is not None:
        if step <= 0 or (high - low) / step > MOST:
            raise HwsimError(
                f"axis '{key}' has step {_written(spec.step)}; "
                f"it must be above 0 and give at most {MOST} values"
            )
        return np.asarray(low + step * np.arange(math.floor((high - low) / step + 1e-9) + 1))
    count = spec.count or 1
    spaced: Any = np.geomspace if spec.scale == "log" else np.linspace
    return np.asarray(spaced(low, high, count), dtype=np.float64)


def _written(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _number(key: str, value: Any, unit: str) -> float:
    """Text with its unit, or a number in SI units."""
    if isinstance(value, bool):
        raise HwsimError(f"axis '{key}' holds {value}; it takes numbers")
    try:
        return parse_quantity(value, unit) if isinstance(value, str) else float(value)
    except DeviceError as error:
        raise HwsimError(f"axis '{key}': {error}") from None
    except (TypeError, ValueError):
        raise HwsimError(f"axis '{key}' holds {value!r}; it takes numbers, or text with a unit") from None
