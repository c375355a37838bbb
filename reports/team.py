"""A team of devices as a table: what each member does, and what sending and joining add."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from hwsim.teams import Team
from reports.numbers import byte_count, quantity, seconds
from reports.table import fits_word, number, plain_table


def team_table(team: Team) -> RenderableType:
    """One line per kind of member and the join; then the whole."""
    table = plain_table("part", "device", ">count", ">latency", ">energy", ">memory", "fits", gap=1)
    parts = [*team.members, *([] if team.join is None else [(team.join, 1)])]
    for one, count in parts:
        table.add_row(
            Text(one.model),
            Text(one.device),
            str(count),
            seconds(number(one.latency_s)),
            quantity(number(one.energy_j), "J", small=True),
            byte_count(number(one.peak_memory_bytes)),
            fits_word(one),
        )
    whole = f"{seconds(number(team.latency_s))} on {team.devices} devices: slowest member "
    whole += seconds(number(team.members_s))
    if team.join is not None:
        sent = f"{byte_count(number(team.transfer_byte))} over {team.link}"
        whole += f", {sent} {seconds(number(team.transfer_s))}, join {seconds(number(team.join.latency_s))}"
    energy = f"{quantity(number(team.energy_j), 'J', small=True)} of all until the last is done"
    return Group(table, Text(whole), Text(energy))
