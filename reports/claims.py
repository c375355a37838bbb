"""Published figures beside ours as a table, the explanations under it, and the counts of verdicts last."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from hwsim.published.checking import Checked, Claims
from hwsim.published.verdicts import VERDICTS
from reports.numbers import UNKNOWN, significant
from reports.table import plain_table


def claims_tables(found: Claims) -> RenderableType:
    """Every claim by system, why those that are not reproduced are not, and how many have which verdict."""
    systems = dict.fromkeys(row.claim.system for row in found.rows)
    parts: list[RenderableType] = []
    for system in systems:
        rows = [row for row in found.rows if row.claim.system == system]
        parts += [Text(f"{system}: {cited(rows[0])}"), _rows(rows), Text()]
    return Group(*parts, *_explanations(found), Text(), counts_table(found))


def _rows(rows: Sequence[Checked]) -> RenderableType:
    table = plain_table("quantity")
    table.add_column("configuration", overflow="fold", min_width=16)
    for name in ("published", "ours", "ratio"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row in rows:
        table.add_row(
            row.claim.quantity,
            Text(versus(row)),
            published_text(row),
            UNKNOWN if row.ours is None else significant(row.ours),
            UNKNOWN if row.ratio is None else significant(row.ratio),
            row.verdict,
        )
    return table


def _explanations(found: Claims) -> list[Text]:
    told = [row for row in found.rows if row.explanation]
    lines = [
        f"{row.claim.system}, {row.claim.quantity} of {row.claim.configuration}: {row.explanation}"
        for row in told
    ]
    return [*map(Text, lines)]


def counts_table(found: Claims) -> RenderableType:
    """Verdicts by kind of claim; no claim is left out."""
    table = plain_table("claims", *(f">{name}" for name in VERDICTS), ">all")
    for group, counts in found.counts.items():
        table.add_row(group, *(str(counts[name]) for name in VERDICTS), str(counts["claims"]))
    return table


def cited(row: Checked) -> str:
    """Title, year and, where it is known, the identifier of what was published."""
    claim = row.claim
    return ", ".join(filter(None, (claim.title, str(claim.year), claim.identifier)))


def versus(row: Checked) -> str:
    """Configuration and baseline."""
    claim = row.claim
    return f"{claim.configuration} vs {claim.baseline}" if claim.baseline else claim.configuration


def published_text(row: Checked) -> str:
    """The printed figure with the first word of its unit."""
    claim = row.claim
    unit = (claim.unit or "").partition(" ")[0]
    if claim.published is None:
        return UNKNOWN
    if isinstance(claim.published, tuple):
        return f"{claim.published[0]:g}-{claim.published[1]:g} {unit}".rstrip()
    return f"{claim.published:.5g} {unit}".rstrip()
