"""Variables that torch reads when it is imported. Set before that; imports nothing but the standard library."""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping

FALLBACK = "PYTORCH_ENABLE_MPS_FALLBACK"
HIGH, LOW = "PYTORCH_MPS_HIGH_WATERMARK_RATIO", "PYTORCH_MPS_LOW_WATERMARK_RATIO"
HIGH_RATIO, LOW_SHARE = 1.0, 0.8
"""Of the memory that the system recommends for Metal: how much torch may take at most (torch's own limit is 1.7, which makes
the system swap), and the share of that above which it frees what it keeps."""


def prepare_metal(platform: str = sys.platform, environment: MutableMapping[str, str] = os.environ) -> None:
    """On a Mac, let operations that Metal lacks run on the CPU, and bound the memory that torch takes. What is set stays.

    torch refuses a high mark below its low one, whose default is 1.4, so the low mark follows a high mark that is set alone.
    """
    if platform != "darwin":
        return
    environment.setdefault(FALLBACK, "1")
    high = environment.setdefault(HIGH, str(HIGH_RATIO))
    try:
        ratio = float(high)
    except ValueError:
        return  # torch says so
    if ratio > 0:
        environment.setdefault(LOW, f"{ratio * LOW_SHARE:g}")
