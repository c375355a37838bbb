"""The event protocol: one op between two device events, synchronised after each, a host launch inside the
pair.

What the launch adds is a property of the host and the method, never of a device. The public fp32 set shows
13 to 32 us on operators too small to take time of their own (its README), and the same 25 us on elementwise
operators of any size: fitted over seven hosts, the middle is taken for a host nobody knows.
"""

from __future__ import annotations

from hwsim.measurements.question import Protocol

EVENT = Protocol(
    timing="event", statistic="mean of the five fastest of 25", warm=True, added_s=25e-6,
    source="torch events round one eager op; 25 us fitted on elementwise operators of the public fp32 set",
)  # fmt: skip
