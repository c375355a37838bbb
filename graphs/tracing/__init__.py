"""Tracing: the only part of `graphs` that runs torch. A real module goes in, an `OperatorGraph` comes out."""
