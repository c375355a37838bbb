"""Where models come from: one module per kind of spec, each a function `find` from a spec to a `Source`.

`hf:DIR`, `timm:NAME`, `program.pt2`, `model.onnx`, `model.py:factory`, and the built-in names. Finding reads
files but imports no library: what it gives is enough to look a trace up in the cache.
"""

from graphs.sources.source import Source, find

__all__ = ["Source", "find"]
