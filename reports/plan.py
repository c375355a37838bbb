"""A plan as a table: set-ups that meet the target, the best first, and why others do not."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from hwsim.plans import Offer, Plan
from reports.numbers import UNKNOWN, byte_count, quantity, seconds, significant
from reports.table import plain_table


def plan_table(plan: Plan, top: int) -> RenderableType:
    """At most `top` offers, each at the batch that is cheapest for it."""
    target = plan.target
    ends = ", also at the upper ends of the intervals" if target.sure else ""
    parts: list[RenderableType] = [
        Text(
            f"{plan.model}: {target.generate} tokens after {target.prompt}, "
            f"TTFT <= {seconds(target.ttft_s)}, TPOT <= {seconds(target.tpot_s)}{ends}; ranked by {plan.goal}"
        )
    ]
    if plan.offers:
        parts.append(_offers(plan, top))
    else:
        parts.append(Text("No set-up meets this."))
    if len(plan.offers) > top:
        parts.append(Text(f"{len(plan.offers) - top} more meet it; --top shows more"))
    parts += [Text(f"not {name}: {why}") for name, why in plan.refused.items()]
    return Group(*parts)


def _offers(plan: Plan, top: int) -> RenderableType:
    rate = plan.target.rate_per_s is not None
    last = (">replicas", ">$/h") if rate else (">J/token", ">memory", ">$/M tok")
    table = plain_table("set-up", ">batch", ">TTFT", ">TPOT", ">tokens/s", *last, gap=1)
    for offer in plan.offers[:top]:
        cells = [
            _name(offer),
            str(offer.batch),
            seconds(offer.ttft_s),
            seconds(offer.tpot_s),
            quantity(offer.tokens_per_s, ""),
        ]
        if rate:
            cells += [str(offer.replicas), _known(offer.fleet_usd_per_hour)]
        else:
            cells += [significant(offer.energy_per_token_j), byte_count(offer.memory_bytes)]
            cells.append(_known(offer.usd_per_million_tokens))
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _name(offer: Offer) -> str:
    return offer.device if offer.recipe == "as is" else f"{offer.device}, {offer.recipe}"


def _known(value: float | None) -> str:
    return UNKNOWN if value is None else significant(value)
