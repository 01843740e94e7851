"""Stored configurations, as every version of the library reads them."""

from __future__ import annotations

from typing import Any


def with_rope_parameters(raw: dict[str, Any]) -> dict[str, Any]:
    """A stored configuration whose rotary base stands where every version of the library reads it.

    Published files have it as `memory_attention_rope_theta`, a name that the library deprecates.
    """
    kept = dict(raw)
    theta = kept.pop("memory_attention_rope_theta", None)
    if theta is not None and kept.get("rope_parameters") is None:
        kept["rope_parameters"] = {"rope_type": "axial", "rope_theta": theta}
    return kept
