"""Sweeps looked at: a table of any size becomes a `Study`, with curves, effects and planes over it."""
