"""The Markdown page of a coverage run: how many models trace, each miss with its reason."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

TITLES = {"hf": "types of transformers' AutoModel", "timm": "models of timm's transformer-like families"}
DEPTH = {
    "hf": "Each type is built from its default config, with every stack cut to the shortest depth that has "
    "all its kinds of layers, two at least: further layers of a kind trace alike. ",
    "timm": "",
}
OPEN = ("symbolic", "solved")
Row = Mapping[str, Any]


def document(library: str, rows: list[Row], names: int, measurements: Path | None) -> str:
    """The whole page; `rows` are the names asked so far, out of `names`."""
    built = [row for row in rows if row["outcome"] != "unbuilt"]
    parts = [
        f"# Coverage: {TITLES[library]}\n",
        f"Written by `python -m benchmarks.coverage {library}`; do not edit.\n",
        _summary(library, rows, built, names),
        "\n".join(_checks(built)),
        *_published(rows, measurements),
        *_given([row for row in built if row.get("given")]),
        *_table("Traced with a size held fixed", [r for r in built if r["outcome"] == "fixed"]),
        *_table("Not traced", [r for r in built if r["outcome"] == "miss"]),
        *_table("Not built from a default config", [r for r in rows if r["outcome"] == "unbuilt"]),
        "## Traced\n",
        "| model | sizes | operators | parameters | inputs |\n|---|---|---|---|---|",
        *(_traced_line(row) for row in built if row["outcome"] in OPEN),
    ]
    return "\n".join(parts) + "\n"


def _summary(library: str, rows: list[Row], built: list[Row], names: int) -> str:
    counts = Counter(row["outcome"] for row in built)
    good = sum(counts[how] for how in OPEN)
    share = 100 * good / max(1, len(built))
    asked = f"Asked so far: {len(rows)} of {names}, in an order drawn by lot. " if len(rows) < names else ""
    asked = DEPTH[library] + asked
    return (
        f"{asked}{len(built)} of {len(rows)} build; of these **{good} ({share:.1f} %)** trace with batch and "
        f"every length open: {counts['symbolic']} symbolic, {counts['solved']} solved. {counts['fixed']} "
        f"trace with a size fixed, {counts['miss']} do not.\n"
    )


def _checks(built: list[Row]) -> Iterator[str]:
    traced = [row for row in built if "nodes" in row]
    counted = [row for row in traced if row.get("parameters_counted") is not None]
    exact = [row for row in counted if row["parameters"] == row["parameters_counted"]]
    yield f"- parameters equal the module's own count for {len(exact)} of {len(counted)}"
    yield from (
        f"  - {row['name']}: {row['parameters']:,} here, {row['parameters_counted']:,} in the module"
        for row in counted
        if row not in exact
    )
    yield from _flops([row for row in traced if "flop" in row])
    unknown = Counter(op for row in traced for op in row["unknown"])
    known = sum(not row["unknown"] for row in traced)
    yield f"- {known} of {len(traced)} have a work rule for every operator"
    yield from (f"  - `{op}` in {count}" for op, count in unknown.most_common())
    yield ""


def _flops(rows: list[Row]) -> Iterator[str]:
    """FLOP beside torch's counter; it knows products and convolutions only."""
    if not rows:
        return
    equal = [row for row in rows if abs(row["flop"] - row["flop_counted"]) <= 1e-9 * row["flop_counted"]]
    yield (
        f"- FLOP equal torch's counter (math attention) for {len(equal)} of the {len(rows)} that run there"
    )
    yield from (
        f"  - {row['name']}: {row['flop']:.6g} here, {row['flop_counted']:.6g} by the counter"
        for row in rows
        if row not in equal
    )


def _published(rows: list[Row], measurements: Path | None) -> Iterator[str]:
    """Multiply-adds beside the published table, in whichever of its two conventions is nearer."""
    if measurements is None:
        return
    published = dict(_multiply_adds(measurements))
    asked = [row for row in rows if row["name"] in published and "macs" in row]
    pairs = [(row, published[row["name"]]) for row in asked if published[row["name"]][0] == row["side"]]
    lines, near = [], 0
    for row, (side, macs) in pairs:
        ways = {"with attention": row["macs"], "without": row["macs_without_attention"]}
        way = min(ways, key=lambda one: abs(ways[one] / 1e9 - macs))
        # the table has two decimals, which is more than 1 % of a small model
        close = abs(ways[way] / 1e9 - macs) <= max(0.01 * macs, 0.005)
        near += close
        told = (
            row["name"],
            str(side),
            f"{macs:.2f}",
            f"{ways[way] / 1e9:.2f}",
            way,
            "yes" if close else "no",
        )
        lines.append(f"| {' | '.join(told)} |")
    yield "## Multiply-adds beside the published table\n"
    yield f"{near} of {len(pairs)} agree within 1 % (or half of the table's last digit); 1e9 per image.\n"
    yield "| model | side | published | here | attention | agrees |\n|---|---|---|---|---|---|"
    yield from sorted(lines)
    yield ""


def _multiply_adds(path: Path) -> Iterator[tuple[str, tuple[int, float]]]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        for row in csv.DictReader(file):
            if row["mode"] == "infer" and row["gmacs"] and row["gmacs_filled"] == "0":
                yield row["model"], (int(row["img_size"]), float(row["gmacs"]))


def _given(rows: list[Row]) -> Iterator[str]:
    """Types whose default config runs nowhere, transformers included."""
    if not rows:
        return
    yield "## Traced with what the default leaves open\n"
    yield (
        f"{len(rows)} of these default configs leave open what the model needs, so that transformers cannot "
        "run them, either. They are counted above, traced with these fields given: the last token for one "
        "that stands for images, two experts a token, the first language, rotary sections in equal parts.\n"
    )
    yield "| model | given |\n|---|---|"
    yield from (f"| {row['name']} | {', '.join(row['given'])} |" for row in rows)
    yield ""


def _table(title: str, rows: list[Row]) -> Iterator[str]:
    if not rows:
        return
    yield f"## {title}\n"
    yield "| model | why |\n|---|---|"
    yield from (f"| {row['name']} | {_cell(row.get('reason', ''))} |" for row in rows)
    yield ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")[:240]


def _traced_line(row: Row) -> str:
    roads = ", ".join(f"{name} {how}" for name, how in row["roads"].items())
    inputs = ", ".join(row.get("inputs", ["image"]))
    return f"| {row['name']} | {roads} | {row['nodes']} | {row['parameters']:,} | {inputs} |"
