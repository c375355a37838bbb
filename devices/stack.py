"""The software between graph and silicon, as data: overheads, passes, attention kernel, memory reserve."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from devices.errors import DeviceError, near
from devices.quantity import parse_quantity

AttentionKernel = Literal[
    "as_written", "math", "flash", "flash_split_kv", "flash_attention_2", "flash_decoding", "stream_k"
]

_FOLDER = Path(__file__).with_name("stacks")
# key of the file -> field and dimension; these may be arrays of design points
QUANTITIES = {
    "dispatch": ("dispatch_s", "second"),
    "launch": ("launch_s", "second"),
    "reserve": ("reserve_byte", "byte"),
    "allocator_round": ("allocator_round_byte", "byte"),
}
_KEYS = (*QUANTITIES, "graph_capture", "passes", "attention_kernel", "direct_all_reduce", "source", "notes")
_OPTIONAL = ("notes", "direct_all_reduce")
_SWITCHES = ("graph_capture", "direct_all_reduce")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """How operators reach the device; fitted coefficients replace these defaults where measurements exist."""

    id: str
    dispatch_s: Any  # float, or an array of design points
    launch_s: Any
    graph_capture: bool
    passes: tuple[str, ...]
    attention_kernel: AttentionKernel
    reserve_byte: Any
    allocator_round_byte: float
    source: str
    direct_all_reduce: bool = False  # kernels of its own for sums over the ranks of a node
    notes: str = ""

    def replace(self, **changes: object) -> Stack:
        """A new stack with keys of the file changed: `replace(dispatch="4 us", graph_capture=True)`."""
        return dataclasses.replace(self, **_fields(changes, f"stack '{self.id}'"))


def stack(id: str) -> Stack:
    """The stack of a file under `devices/stacks`."""
    path = _FOLDER / f"{id}.toml"
    known = [one.stem for one in _FOLDER.glob("*.toml")]
    if id not in known:
        raise DeviceError(f"no stack '{id}'; stacks are {', '.join(sorted(known))}{near(id, known)}")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise DeviceError(f"{path.name} is not valid TOML: {error}") from None
    missing = [key for key in _KEYS if key not in table and key not in _OPTIONAL]
    if missing:
        raise DeviceError(f"{path.name}: '{missing[0]}' is missing")
    return Stack(id=id, **_fields(table, path.name))


def stacks() -> list[Stack]:
    """All stacks in order of id."""
    return [stack(path.stem) for path in sorted(_FOLDER.glob("*.toml"))]


def _fields(table: Mapping[str, object], where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in table.items():
        name, checked = _field(key, value, where)
        found[name] = checked
    return found


def _field(key: str, value: object, where: str) -> tuple[str, object]:
    by_attribute = {attribute: short for short, (attribute, _) in QUANTITIES.items()}
    key = by_attribute.get(key, key)
    if key in QUANTITIES:
        attribute, dimension = QUANTITIES[key]
        if isinstance(value, np.ndarray) and value.ndim and key != "allocator_round":
            return attribute, _points(value, f"{where}: {key}")
        return attribute, _quantity(value, dimension, f"{where}: {key}")
    if key not in _KEYS:
        raise DeviceError(f"{where}: unknown key '{key}'{near(key, _KEYS)}")
    if key == "passes":
        names = value.split(",") if isinstance(value, str) else value
        if not isinstance(names, list | tuple):
            raise DeviceError(f"{where}: passes is {value!r}; give names, such as 'fusion,precision'")
        return key, tuple(str(name).strip() for name in names if str(name).strip())
    if key == "attention_kernel" and value not in get_args(AttentionKernel):
        kernels = get_args(AttentionKernel)
        raise DeviceError(f"{where}: no attention kernel '{value}'; kernels are {', '.join(kernels)}")
    if key in _SWITCHES and value in ("true", "false"):
        return key, value == "true"
    if key in _SWITCHES and not isinstance(value, bool):
        raise DeviceError(f"{where}: {key} is {value!r}; it is true or false")
    return key, value


def _points(values: NDArray[Any], where: str) -> NDArray[np.float64]:
    if not np.all(np.isfinite(values)) or np.any(values < 0):
        raise DeviceError(f"{where} = {values}: every value must be finite and zero or more")
    return values.astype(np.float64)


def _quantity(value: object, dimension: str, where: str) -> float:
    """Text with a unit, or (in `replace`) a plain SI number."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return parse_quantity(float(value), "number")
        return parse_quantity(value, dimension)  # type: ignore[arg-type]  # refuses other types itself
    except DeviceError as error:
        raise DeviceError(f"{where}: {error}") from None
