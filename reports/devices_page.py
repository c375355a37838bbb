"""The generated part of docs/devices.md: devices, clusters, architectures and names as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from devices import Cluster, Device, clusters, devices
from devices.architecture import architecture, architectures
from devices.balance import peak_power_w, vector_power_w
from devices.naming import entries
from reports.devices import own_peak, ridges, shape_text, single
from reports.numbers import UNKNOWN, byte_count, quantity, significant

BEGIN, END = "<!-- generated: begin -->", "<!-- generated: end -->"
_KINDS = {
    "gpu": "GPUs",
    "tpu": "TPUs",
    "accelerator": "Other accelerators",
    "edge": "Edge devices",
    "cpu": "CPUs",
}
# What a source says of numbers that nobody looked up.
_OF_ALL = ("energy", "memory.nvme")
_UNSURE = ("from memory", "assum", "placeholder", "derived")


def with_tables(page: str) -> str:
    """The page with what stands between its two marks made anew."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"


def tables() -> str:
    """Every generated table."""
    everything = devices()
    parts = [f"{len(everything)} devices, {len(clusters())} clusters.", ""]
    for kind, heading in _KINDS.items():
        parts += [f"### {heading}", "", *_devices([one for one in everything if one.kind == kind]), ""]
    parts += ["### Power-limited at peak", "", *_limited(everything), ""]
    parts += ["### Clusters", "", *_clusters(clusters()), ""]
    parts += ["### Operations per unit and clock", "", *_architectures(), ""]
    parts += ["### Names that only a data set explains", "", *_names(), ""]
    parts += ["### Where sources differ", "", *_conflicts(everything)]
    return "\n".join(parts) + "\n"


def power_shares(device: Device) -> dict[str, float]:
    """Power at the full rate of each dtype and of DRAM, over the power limit."""
    limit = float(device.power.limit_w)
    shares = {dtype: float(peak_power_w(device, dtype)) / limit for dtype in device.compute.matrix_flop_per_s}
    return {**shares, "vectors": float(vector_power_w(device)) / limit}


def _devices(found: Sequence[Device]) -> Iterator[str]:
    head = (
        "id",
        "name",
        "year",
        "nm",
        "fp32",
        "16-bit",
        "int8",
        "memory",
        "DRAM",
        "ridge",
        "limit",
        "unsure",
    )
    yield from _table(head, map(_line, found), left=2)


def _line(one: Device) -> list[str]:
    dram = one.memory.dram
    dtype = next((d for d in ("bf16", "fp16") if own_peak(one, (d,)) is not None), None)
    unsure = [group for group, source in one.sources.items() if any(word in source for word in _UNSURE)]
    return [
        f"`{one.id}`",
        one.name,
        str(one.year or UNKNOWN),
        UNKNOWN if one.process_nm is None else f"{one.process_nm:g}",
        *(_rate(one, dtypes) for dtypes in (("fp32",), ("bf16", "fp16"), ("int8",))),
        UNKNOWN if dram is None else byte_count(single(dram.capacity_byte)),
        UNKNOWN if dram is None else quantity(single(dram.bandwidth_byte_per_s), "B/s"),
        UNKNOWN if dtype is None else quantity(ridges(one)[dtype], ""),
        quantity(single(one.power.limit_w), "W", small=True),
        # the energy table, the drive and derived bandwidths are unsure for everyone
        ", ".join(n for n in unsure if n not in _OF_ALL and not n.endswith(".bandwidth")) or "",
    ]


def _rate(one: Device, dtypes: Sequence[str]) -> str:
    return quantity(single(own_peak(one, dtypes)), "")


def _limited(found: Sequence[Device]) -> Iterator[str]:
    """Those that cannot hold their clock at full rate, the furthest above its limit first."""
    worst = {one.id: max(power_shares(one).items(), key=lambda item: item[1]) for one in found}
    above = {id: item for id, item in worst.items() if item[1] > 1}
    in_order = sorted(above.items(), key=lambda item: -item[1][1])
    rows = ([f"`{id}`", dtype, significant(share)] for id, (dtype, share) in in_order)
    yield from _table(("id", "at the full rate of", "power over limit"), rows, left=2)


def _clusters(found: Sequence[Cluster]) -> Iterator[str]:
    rows = (
        [
            f"`{one.id}`",
            one.name,
            f"{one.count} x `{one.device.id}`",
            "; ".join(
                f"{tier.name} of {tier.devices}: {tier.link} "
                f"{quantity(tier.bandwidth_byte_per_s, 'B/s')}, {shape_text(tier)}"
                for tier in one.tiers
            ),
        ]
        for one in found
    )
    yield from _table(("id", "name", "devices", "tiers, per direction and device"), rows, left=4)


def _architectures() -> Iterator[str]:
    rows = []
    for name in architectures():
        unit = architecture(name)
        matrix = ", ".join(f"{dtype} {rate}" for dtype, rate in unit.matrix.items())
        vector = ", ".join(f"{dtype} {rate}" for dtype, rate in unit.vector.items())
        rows.append([f"`{name}`", f"{unit.vendor} {unit.generation}", str(unit.lanes), matrix, vector])
    yield from _table(("architecture", "is", "lanes", "matrix", "vector"), rows, left=2, right=1)


def _names() -> Iterator[str]:
    rows = []
    for data_set, entry in entries():
        where = ", ".join(f"{column} = {value}" for column, value in entry.get("where", {}).items())
        count = f"{entry['count']} x " if "count" in entry else ""
        name = entry["name"] + (f" ({where})" if where else "")
        rows.append([data_set, name, f"{count}`{entry['device']}`", entry["reason"]])
    yield from _table(("data set", "name", "device", "why"), rows, left=4)


def _conflicts(found: Sequence[Device]) -> Iterator[str]:
    for one in found:
        for conflict in one.conflicts:
            yield f"- `{one.id}` {conflict}"


def _table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, left: int, right: int | None = None
) -> Iterator[str]:
    """A Markdown table: `left` columns of text, then numbers, `right` of them, then text again."""
    numbers = len(head) - left if right is None else right
    marks = ["---" if not left <= column < left + numbers else "---:" for column in range(len(head))]
    if right is None and head[-1] == "unsure":
        marks[-1] = "---"
    for cells in (head, marks, *rows):
        yield f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
