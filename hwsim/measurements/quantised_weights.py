"""Weight formats of llama.cpp, as bits per weight written with group scales."""

from __future__ import annotations

# Bits by definition of the block formats; Q4_K_M, Q5_K_M and Q3_K_M mix formats: file size over parameters of
# the 8 B Llama 3 model (4.92, 5.73, 4.02 GB, from memory, unverified).
FORMATS: dict[str, str | None] = {
    "F16": None, "BF16": None, "F32": "fp32", "Q8_0": "int8:g32", "Q6_K": "int4:g6", "Q5_0": "int4:g11",
    "Q5_1": "int4:g8", "Q5_K_M": "int4:g9", "Q4_0": "int4:g32", "Q4_1": "int4:g16", "Q4_K_M": "int4:g18",
    "Q4_K": "int4:g32", "Q3_K_M": "int4",
}  # fmt: skip


def weight_format(name: str) -> str | None:
    """hwsim's spelling, or None for 16-bit weights; KeyError where the format is unknown."""
    return FORMATS[name.upper()]
