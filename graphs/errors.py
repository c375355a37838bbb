"""Errors of the `graphs` room: one line that names the value, the rule and the remedy."""

from __future__ import annotations


class GraphError(ValueError):
    """A model, graph, size or expression that cannot be used as asked."""
