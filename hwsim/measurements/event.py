"""The event protocol: one op between two device events, synchronised after each, host launch included.

Its floor is a property of the host and the method: the 5th percentile of tiny operators was 13 to 32 us
over the machines of the public fp32 set (its README), the middle is taken for a host nobody knows.
"""

from __future__ import annotations

from hwsim.measurements.question import Protocol

EVENT = Protocol(
    timing="event", statistic="mean of the five fastest of 25", warm=True, floor_s=26e-6,
    source="torch events round one eager op; floor: median over hosts of the 5th percentile of tiny ops",
)  # fmt: skip
