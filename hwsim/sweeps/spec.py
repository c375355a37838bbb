"""What a sweep is asked to do: outside text (TOML, JSON, a dict), checked once."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from devices import Device, Stack, parse_quantity
from devices.errors import near
from graphs.ir import OperatorGraph
from hwsim.errors import HwsimError

Scale = Literal["linear", "log"]
OWN = "own"  # in a list of dtypes: the model's own
TPE_ROUND = 32
NSGA2_ROUNDS = 50  # generations, as far as they leave every one enough points
NSGA2_LEAST, NSGA2_MOST = 32, 512


def _many(value: Any) -> Any:
    """One thing is a list of one."""
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        return (value,)
    return tuple(value)


Names = Annotated[tuple[str, ...], BeforeValidator(_many)]
Things = Annotated[tuple[Any, ...], BeforeValidator(_many)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class AxisSpec(_Part):
    """Values of one name: a list, a range of `count` points or of `step`, or a range to draw samples from.

    As text: `1,2,4` a list, `128:4096` doubles, `128:4096:16` takes 16 values of equal ratio, `1:9:3:linear`
    of equal distance, `1:256:log` is drawn from. `times` multiplies the device's own value. Model sizes and
    numbers of parts are whole; `multiple` rounds to multiples of more.
    """

    values: Things | None = None
    start: float | str | None = Field(None, alias="from")
    stop: float | str | None = Field(None, alias="to")
    count: int | None = Field(None, ge=1, le=100_000_000)
    step: float | str | None = None
    scale: Scale = "linear"
    doubling: bool = False
    times: bool = False
    whole: bool | None = None
    multiple: int = Field(1, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if isinstance(value, str):
            return _from_text(value)
        return value if isinstance(value, Mapping | AxisSpec) else {"values": value}

    @model_validator(mode="after")
    def _one_meaning(self) -> AxisSpec:
        ranged = self.start is not None and self.stop is not None
        if (self.values is not None) == ranged or (self.start is None) != (self.stop is None):
            raise ValueError("give either values, or from and to")
        if sum((self.count is not None, self.step is not None, self.doubling)) > ranged:
            raise ValueError("a range takes one of count, step or doubling; values take none")
        if self.values is not None and not self.values:
            raise ValueError("an axis of no values has no points")
        return self

    @property
    def sampled(self) -> bool:
        """A range that does not say which of its points: they are drawn."""
        return self.values is None and self.count is None and self.step is None and not self.doubling


class SampleSpec(_Part):
    """How many points are drawn from the ranges, and how: iid, Latin hypercube, or scrambled
    Sobol sequence.
    """

    points: int = Field(ge=1, le=2**30)
    method: Literal["random", "lhs", "sobol"] = "random"
    seed: int = Field(0, ge=0)


class SearchSpec(_Part):
    """How many points are tried instead of all, and by which method: NSGA-II for several objectives, else
    TPE.
    """

    trials: int = Field(ge=1, le=1_000_000)
    method: Literal["nsga2", "tpe"] | None = None
    seed: int = Field(0, ge=0, lt=2**32)

    def chosen(self, objectives: int) -> str:
        """The method for a number of objectives."""
        return self.method or ("nsga2" if objectives > 1 else "tpe")

    def round(self, objectives: int) -> int:
        """Points that are proposed, priced and learnt from together: a generation of NSGA-II."""
        if self.chosen(objectives) == "tpe":
            return min(TPE_ROUND, self.trials)
        return min(max(NSGA2_LEAST, min(NSGA2_MOST, self.trials // NSGA2_ROUNDS)), self.trials)


class WorkloadSpec(_Part):
    """One of several workloads a machine must serve; `share` is its weight in what they add up to."""

    model: Any
    phase: str = "forward"
    name: str = Field("", pattern=r"^\w*$")
    share: float = Field(1.0, gt=0, allow_inf_nan=False)
    dtype: str | None = None
    weights: str | None = None
    kv: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict, alias="set")


class SweepSpec(_Part):
    """A sweep: structural axes (several models, phases, dtypes, stacks, devices), numeric `axes`, and what is
    wanted.
    """

    model: Things = ()
    phase: Names = ("forward",)
    device: Things = ()
    dtype: Names = (OWN,)
    weights: Names = (OWN,)
    kv: Names = (OWN,)
    stack: Things = ("compiled",)
    workload: tuple[WorkloadSpec, ...] = ()
    combine: Literal["sum", "geomean", "worst"] | None = None
    settings: dict[str, Any] = Field(default_factory=dict, alias="set")
    axes: dict[str, AxisSpec] = Field(default_factory=dict)
    sample: SampleSpec | None = None
    search: SearchSpec | None = None
    where: Names = ()
    minimize: Names = ()
    maximize: Names = ()
    columns: Names | None = None
    keep: Literal["all", "feasible"] = "all"
    price: str | float | None = None
    impossible: Literal["refuse", "skip"] = "refuse"
    chunk: int | None = Field(None, ge=1, le=1_000_000)

    @model_validator(mode="after")
    def _whole_request(self) -> SweepSpec:
        if bool(self.model) == bool(self.workload):
            raise ValueError("name a model or some [[workload]]s, and not both")
        if self.combine and not self.workload:
            raise ValueError("combine says how several [[workload]]s count together; there are none")
        for name in ("device", "phase", "dtype", "weights", "kv", "stack"):
            if not getattr(self, name):
                raise ValueError(f"{name} is an empty list; a sweep needs at least one")
        drawn = [name for name, axis in self.axes.items() if axis.sampled]
        if self.search is not None:
            self._searchable()
        elif drawn and self.sample is None:
            raise ValueError(
                f"axis '{drawn[0]}' says neither count nor step; add one, or [sample] points = ..."
            )
        if self.keep == "feasible" and not self.where:
            raise ValueError("keep = 'feasible' needs constraints; add where = [...]")
        if self.sample is not None and not drawn:
            raise ValueError("[sample] draws from ranges without count and step, and no axis is one")
        return self

    def _searchable(self) -> None:
        if self.sample is not None:
            raise ValueError("a search proposes points and a [sample] draws them; keep one")
        if not (self.minimize or self.maximize):
            raise ValueError("a search needs an objective; add minimize = [...] or maximize = [...]")
        if not self.axes and len(self.device) * len(self.model or self.workload) == 1:
            raise ValueError("a search needs axes to choose on; add some under [axes]")

    @property
    def hourly_price(self) -> float | None:
        """USD per hour of `2.5`, `2.5/h` or `$2.5/h`."""
        if self.price is None or not isinstance(self.price, str):
            return self.price
        return parse_quantity(f"{self.price.replace('$', '').removesuffix('/h')} $/h", "usd_per_hour")

    def document(self) -> dict[str, Any]:
        """The spec as plain lists and numbers; objects of the caller's stand there by name."""
        plain = _plain(self)
        assert isinstance(plain, dict)  # of a model
        return plain


def with_flags(path: Path | None, flags: Mapping[str, Any]) -> dict[str, Any]:
    """The table of a TOML file with keys replaced by those of a command line that are given; axes
    are added.
    """
    table = {} if path is None else _toml(path)
    given = {name: value for name, value in flags.items() if value not in (None, [], {})}
    for name in ("axes", "set", "sample", "search"):
        if name in given and isinstance(table.get(name), dict):
            given[name] = {**table[name], **given[name]}
    return {**table, **given}


def read_spec(spec: SweepSpec | Mapping[str, Any] | str | Path, *, trials: int | None = None) -> SweepSpec:
    """The spec of a TOML file, or of a dict of the same keys; `trials` makes it a search."""
    where, table = "sweep", spec
    if isinstance(spec, SweepSpec):
        if trials is None:
            return spec
        table = {name: getattr(spec, name) for name in spec.model_fields_set}
    if isinstance(spec, str | Path):
        where, table = str(spec), _toml(Path(spec))
    given = dict(table)  # type: ignore[arg-type]  # a mapping by now
    if trials is not None:
        search = given.get("search") or {}
        given["search"] = {**(search if isinstance(search, Mapping) else dict(search)), "trials": trials}
        given.pop("sample", None)
    try:
        return SweepSpec.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise HwsimError(f"{where}: {place + ': ' if place else ''}{_message(first)}") from None


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise HwsimError(f"{path} cannot be read ({error.strerror}); name a sweep's TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise HwsimError(f"{path} is not valid TOML: {error}") from None


def _message(error: Mapping[str, Any]) -> str:
    """Of pydantic, in our words."""
    if error["type"] == "extra_forbidden":
        known = sorted(
            {
                field.alias or name
                for part in (SweepSpec, AxisSpec, SampleSpec, SearchSpec, WorkloadSpec)
                for name, field in part.model_fields.items()
            }
        )
        return f"no such key{near(str(error['loc'][-1]), known)}"
    return str(error["msg"]).removeprefix("Value error, ")


def _from_text(text: str) -> dict[str, Any]:
    if ":" not in text:
        return {"values": [part.strip() for part in text.split(",") if part.strip()]}
    start, stop, *more = (part.strip() for part in text.split(":"))
    found: dict[str, Any] = {"from": start, "to": stop}
    if not more:
        return {**found, "doubling": True}
    if len(more) == 1 and more[0] in get_args(Scale):
        return {**found, "scale": more[0]}
    if len(more) <= 2 and more[0].isdigit():
        return {**found, "count": int(more[0]), "scale": more[1] if len(more) > 1 else "log"}
    raise ValueError(
        f"'{text}' is no range; write 1,2,4 or 128:4096 or 128:4096:16 or 128:4096:16:linear or 1:256:log"
    )


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        given = {
            field.alias or name: getattr(value, name)
            for name, field in fields.items()
            if name in value.model_fields_set
        }
        return {name: _plain(one) for name, one in given.items() if one is not None}
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    if isinstance(value, OperatorGraph):
        return f"graph of {value.model} in phase {value.phase}"
    if isinstance(value, Device | Stack):
        return value.id
    if hasattr(value, "tolist"):
        return value.tolist()
    return value if isinstance(value, str | int | float | bool | None) else type(value).__name__
