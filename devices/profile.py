"""The schema of a profile file: strict, frozen, quantities as text with a unit, a source in every group."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from devices.device import Topology
from devices.errors import DeviceError, near
from devices.quantity import parse_quantity

# What an extending profile does not inherit: it is about the one device.
_OWN = ("aliases", "conflicts", "notes", "price", "carbon", "date", "extends")


def _above_zero(dimension: str) -> BeforeValidator:
    def read(text: object) -> float:
        value = _text(text, dimension)
        if value == 0:
            raise DeviceError(f"'{text}' is zero; leave the key out when the value is not known")
        return value

    return BeforeValidator(read)


def _zero_or_more(dimension: str) -> BeforeValidator:
    return BeforeValidator(lambda text: _text(text, dimension))


def _text(text: object, dimension: str) -> float:
    if not isinstance(text, str):
        raise DeviceError(f"{text!r} is not text with a unit, such as '3.35 TB/s'")
    return parse_quantity(text, dimension)


Bytes = Annotated[float, _above_zero("byte")]
BytePerS = Annotated[float, _above_zero("byte_per_s")]
FlopPerS = Annotated[float, _above_zero("flop_per_s")]
OpPerS = Annotated[float, _above_zero("op_per_s")]
Hertz = Annotated[float, _above_zero("hertz")]
Watt = Annotated[float, _above_zero("watt")]
WattOrZero = Annotated[float, _zero_or_more("watt")]
Second = Annotated[float, _zero_or_more("second")]
JoulePerByte = Annotated[float, _zero_or_more("joule_per_byte")]
JoulePerOp = Annotated[float, _zero_or_more("joule_per_op")]
UsdPerHour = Annotated[float, _zero_or_more("usd_per_hour")]
Nanometre = Annotated[float, _above_zero("nm")]
SquareMm = Annotated[float, _above_zero("square_mm")]
TransferPerS = Annotated[float, _above_zero("transfer_per_s")]
GramPerKwh = Annotated[float, _zero_or_more("gram_per_kwh")]
Source = Annotated[str, Field(min_length=3)]
Count = Annotated[int, Field(gt=0)]
Dtype = Literal[
    "fp64", "fp32", "tf32", "fp16", "bf16", "fp8", "fp6", "fp4",
    "int32", "int16", "int8", "int4", "fp16_acc16", "fp8_acc16",
]  # fmt: skip


class Group(BaseModel):
    """The rules of every table; `defer_build` builds one schema instead of ten and halves a cold start."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", defer_build=True)


class ArrayProfile(Group):
    """`[compute.array]`: grids of multiply-accumulate cells."""

    rows: Count
    columns: Count
    count: Count = 1
    dataflow: Literal["ws", "os", "is", "rs", "any"]
    macs_per_pe_per_cycle: Count = 1
    source: Source


class ComputeProfile(Group):
    """`[compute]`: units, clocks and dense peaks of the whole device by dtype."""

    units: Count
    clock: Hertz
    boost_clock: Hertz | None = None
    lanes_per_unit: Count | None = None
    special: OpPerS | None = None
    matrix: dict[Dtype, FlopPerS] = {}
    vector: dict[Dtype, FlopPerS] = {}
    array: ArrayProfile | None = None
    source: Source


class LevelProfile(Group):
    """`[memory.<level>]`; `type` of dram is a row of `energy.toml`, `label` is what people call the level.

    `bus` (bits) and `rate` are what the bandwidth of dram follows from: checked by laws, read by no engine.
    """

    capacity: Bytes
    bandwidth: BytePerS | None = None
    bus: Count | None = None
    rate: TransferPerS | None = None
    energy: JoulePerByte | None = None
    addressable: Bytes | None = None
    type: str = ""
    label: str = ""
    source: Source


class MemoryProfile(Group):
    """`[memory]`: the levels a device has."""

    register_: LevelProfile | None = Field(default=None, alias="register")
    l1: LevelProfile | None = None
    l2: LevelProfile | None = None
    l3: LevelProfile | None = None
    dram: LevelProfile
    host: LevelProfile | None = None
    nvme: LevelProfile | None = None


class LinkProfile(Group):
    """`[links.<name>]`: one class of links, per direction and per device."""

    bandwidth: BytePerS
    latency: Second | None = None
    topology: Topology
    max_devices: Count | None = None
    label: str = ""
    source: Source


class HostProfile(Group):
    """`[host]`: the CPU behind a device that runs some operators only, and the border between the two.

    `accelerated` are operator kinds (`conv`), kinds by the role of their second operand (`gemm:weight`) or
    names of ops (`relu`); all others run on `device`, in `dtype`. Across memory of its `own` values go over a
    link; where the device is in `shared` DRAM, the CPU takes `traffic` of its bandwidth all the time.
    """

    device: str
    accelerated: tuple[str, ...] = Field(strict=False)
    dtype: Dtype
    memory: Literal["own", "shared"]
    bandwidth: BytePerS | None = None
    latency: Second | None = None
    traffic: BytePerS | None = None
    source: Source


class PowerProfile(Group):
    """`[power]`: the board's limit, and what its cooling carries away however long it runs."""

    limit: Watt
    sustained: Watt | None = None
    idle: WattOrZero | None = None
    source: Source


class EnergyProfile(Group):
    """`[energy]`: only what is published; the rest comes from `energy.toml`."""

    matrix: dict[Dtype, JoulePerOp] = {}
    vector: dict[Dtype, JoulePerOp] = {}
    special: JoulePerOp | None = None
    static: WattOrZero | None = None
    source: Source


class PriceProfile(Group):
    """`[price]`: what an hour costs, and when."""

    per_hour: UsdPerHour
    date: str
    source: Source


class CarbonProfile(Group):
    """`[carbon]`: what the electricity of the place where this machine stands emits, and when."""

    intensity: GramPerKwh
    date: str
    source: Source


class DeviceProfile(Group):
    """One profile file; `date` is that of the look-up, `architecture` a row of architectures.toml.

    `form` block is a part of somebody's chip: its area counts no interfaces.
    """

    name: str
    kind: Literal["gpu", "tpu", "edge", "cpu", "accelerator"]
    vendor: str
    generation: str
    architecture: str = ""
    year: Count
    process: Nanometre
    die_area: SquareMm | None = None
    form: Literal["chip", "block"] = "chip"
    date: str = ""
    engine: Literal["simt", "systolic", "cpu", "spatial"]
    aliases: tuple[str, ...] = Field(default=(), strict=False)
    conflicts: tuple[str, ...] = Field(default=(), strict=False)
    notes: str = ""
    source: Source
    compute: ComputeProfile
    memory: MemoryProfile
    links: dict[str, LinkProfile] = {}
    host: HostProfile | None = None
    power: PowerProfile
    energy: EnergyProfile | None = None
    price: PriceProfile | None = None
    carbon: CarbonProfile | None = None


def read_profile(path: Path, find: Callable[[str], Path]) -> DeviceProfile:
    """The validated profile of a file; `find` turns the id in `extends` into a path."""
    return check_profile(read_table(path, find), path.name)


def check_profile(table: Mapping[str, Any], file_name: str) -> DeviceProfile:
    """Validate a table against the schema; the error names the file, the key, the rule and a near key."""
    try:
        return DeviceProfile.model_validate(dict(table))
    except ValidationError as error:
        raise DeviceError(f"{file_name}: {first_problem(error, DeviceProfile)}") from None


def read_table(path: Path, find: Callable[[str], Path], seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The file's table merged over the tables it extends, less what it says it is `without`."""
    if path in seen:
        raise DeviceError(f"{path.name} extends itself through {' -> '.join(p.stem for p in seen)}")
    table = load_toml(path)
    parent, without = table.pop("extends", None), table.pop("without", [])
    if parent is None and not without:
        return table
    if parent is None or not isinstance(without, list):
        raise DeviceError(f"{path.name}: 'without' lists paths that an 'extends' brings along")
    inherited = read_table(find(str(parent)), find, (*seen, path))
    for name in without:
        _drop(inherited, str(name), path.name)
    return _merged({key: value for key, value in inherited.items() if key not in _OWN}, table)


def _drop(table: dict[str, Any], name: str, file_name: str) -> None:
    """Leave out what the extended profile has and this one has not, such as `links.nvlink`."""
    *groups, last = name.split(".")
    inner: Any = table
    for group in groups:
        inner = inner.get(group, {}) if isinstance(inner, dict) else {}
    if not isinstance(inner, dict) or last not in inner:
        known = inner if isinstance(inner, dict) else ()
        rule = "is not in the extended profile"
        raise DeviceError(f"{file_name}: without = '{name}' {rule}{near(last, known)}")
    del inner[last]


def load_toml(path: Path) -> dict[str, Any]:
    """The raw table of a file."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DeviceError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DeviceError(f"{path.name} is not valid TOML: {error}") from None


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(under)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _merged(result[key], value) if both else value
    return result


def first_problem(error: ValidationError, model: type[BaseModel]) -> str:
    """The first thing wrong, in words of the file: the key, the rule, a near key of `model`."""
    problems = error.errors(include_url=False)
    # An unknown key explains a missing one, so it is told first.
    problem = next((one for one in problems if one["type"] == "extra_forbidden"), problems[0])
    where = [str(step) for step in problem["loc"] if step != "[key]"]
    path = ".".join(where)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{path}'{near(where[-1], _keys_at(where[:-1], model))}{more}"
    if problem["type"] == "missing" and where[-1] == "source":
        group = path.removesuffix("source").rstrip(".") or "the profile"
        return f"{group} has no source; say where its numbers come from{more}"
    if problem["type"] == "missing":
        return f"'{path}' is missing{more}"
    return f"{path}: {problem['msg'].removeprefix('Value error, ')}{more}"


def _keys_at(steps: list[str], model: type[BaseModel]) -> list[str]:
    """The keys that the schema allows at a place; names of links and numbers of list items are steps too."""
    for step in steps:
        model = _inner(model, step) or model
    return [item.alias or name for name, item in model.model_fields.items()]


def _inner(model: type[BaseModel], step: str) -> type[BaseModel] | None:
    """The table that a key holds, looking through `| None`, dict and tuple."""
    for name, item in model.model_fields.items():
        if step == (item.alias or name):
            return next(_tables(item.annotation), None)
    return None


def _tables(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _tables(argument)
