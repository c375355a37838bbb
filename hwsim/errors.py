"""The error type that commands turn into exit code 2; errors of the rooms below are `ValueError`s like it."""

from __future__ import annotations


class HwsimError(ValueError):
    """A request that cannot be answered as asked: one line with the value, the rule and the remedy."""
