"""Measured latencies in files: recognised by their columns, turned into questions, answered and judged.

One small module here per known layout; each says which columns it `NEEDS`, and yields `Question`s (rows
that one vectorised estimate answers) and `Refusal`s (rows it cannot answer, and why). No row is ever
dropped silently.
"""
