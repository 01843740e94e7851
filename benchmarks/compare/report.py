"""The arithmetic of the comparison and its table. Needs the standard library and numpy.

F: frames. O: objects. H, W: the video's size.
"""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

STEADY_FROM = 8  # the memory of an object fills over seven frames
FLAGS = ("avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8",
         "amx_bf16", "asimd", "sve", "bf16", "i8mm")
PEERS = ("meta", "transformers")


def steady(frames_s: Sequence[float], every: int = 1) -> float:
    """Seconds a frame once the memory is full: the median over frames from STEADY_FROM, or over groups of `every` frames where
    the network runs on one of each."""
    times = frames_s[STEADY_FROM:]
    groups = [times[start:start + every] for start in range(0, max(1, len(times) - every + 1), every)]
    return statistics.median(statistics.fmean(group) for group in groups)


def summary(values: Sequence[float]) -> dict[str, float]:
    """The median of repeated runs and the lowest and highest of them."""
    return {"median": round(statistics.median(values), 4), "low": round(min(values), 4), "high": round(max(values), 4)}


def agreement(masks: NDArray[np.bool_], exact: NDArray[np.bool_]) -> dict[str, float]:
    """Intersection over union of masks (F, O, H, W), mean and lowest over frames and objects; 1 for two empty masks."""
    both = np.logical_and(masks, exact).sum((2, 3))
    either = np.logical_or(masks, exact).sum((2, 3))
    iou = np.where(either == 0, 1.0, both / np.maximum(either, 1))
    return {"mean": round(float(iou.mean()), 5), "min": round(float(iou.min()), 5)}


def logits_difference(logits: NDArray[np.float32], exact: NDArray[np.float32]) -> dict[str, float]:
    """max|logits - exact| / max|exact| of each frame and object of (F, O, H, W); the highest and the median of them."""
    found = [float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-12))
             for frame, exact_frame in zip(logits, exact, strict=True) for a, b in zip(frame, exact_frame, strict=True)]
    return {"max": float(f"{max(found):.3g}"), "median": float(f"{statistics.median(found):.3g}")}


def rows(runs: list[dict[str, Any]], peers: Sequence[str] = PEERS) -> list[dict[str, Any]]:
    """One row for each contender and number of objects, from the single runs, in the order of appearance.

    faster_than: a peer's seconds a frame over this contender's.
    """
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault((run["contender"], run["objects"]), []).append(run)
    found = []
    for (contender, objects), group in groups.items():
        good = [run for run in group if "error" not in run]
        row: dict[str, Any] = {"contender": contender, "objects": objects,
                               "runs": len(good), "failed": len(group) - len(good)}
        if row["failed"]:
            row["error"] = next(run["error"] for run in group if "error" in run)
        if good:
            row["seconds_per_frame"] = summary([steady(run["frames_s"], run.get("every", 1)) for run in good])
            row["cpu_seconds_per_frame"] = summary([steady(run["frames_cpu_s"], run.get("every", 1)) for run in good])
            for name in ("first_click_s", "first_click_without_encoder_s", "peak_rss_mib"):
                row[name] = summary([run[name] for run in good])
            row |= {name: good[0][name] for name in ("mask_iou", "logits_difference") if name in good[0]}
        found.append(row)
    seconds = {(row["contender"], row["objects"]): row["seconds_per_frame"]["median"] for row in found if row["runs"]}
    for row in found:
        if row["runs"]:
            own = row["seconds_per_frame"]["median"]
            row["faster_than"] = {peer: round(seconds[peer, row["objects"]] / own, 2) for peer in peers
                                  if (peer, row["objects"]) in seconds and peer != row["contender"]}
    return found


def table(found: list[dict[str, Any]], peers: Sequence[str] = PEERS) -> str:
    """The rows as text."""
    head = ["objects", "contender", "s a frame", "low-high", "first click s", "on encoded", "peak MiB",
            *[f"{peer} / this" for peer in peers], "IoU mean", "min", "logits diff"]
    lines = [head, *[_cells(row, peers) for row in sorted(found, key=lambda row: row["objects"])]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    texts = ["  ".join(cell.ljust(width) if column == 1 else cell.rjust(width)
                       for column, (cell, width) in enumerate(zip(line, widths, strict=True))).rstrip() for line in lines]
    errors = [f"\n{row['contender']}, objects: {row['objects']}, {row['failed']} of {row['failed'] + row['runs']} runs "
              f"failed:\n{row['error']}" for row in found if row["failed"]]
    return "\n".join(texts + errors)


def _cells(row: dict[str, Any], peers: Sequence[str]) -> list[str]:
    names = [str(row["objects"]), row["contender"]]
    if not row["runs"]:
        return [*names, "failed", *[""] * (len(peers) + 7)]
    speed = row["seconds_per_frame"]
    iou, difference = row.get("mask_iou"), row.get("logits_difference")
    return [
        *names, f"{speed['median']:.3f}", f"{speed['low']:.3f}-{speed['high']:.3f}", f"{row['first_click_s']['median']:.3f}",
        f"{row['first_click_without_encoder_s']['median']:.3f}", f"{row['peak_rss_mib']['median']:.0f}",
        *[f"{row['faster_than'][peer]:.2f}" if peer in row["faster_than"] else "-" for peer in peers],
        *([f"{iou['mean']:.4f}", f"{iou['min']:.4f}"] if iou else ["-", "-"]),
        f"{difference['max']:.1e}" if difference else "-",
    ]


def note(seeded: bool) -> str:
    """How to read the table."""
    text = (f"s a frame: median over frames from {STEADY_FROM} on; low-high: of the runs. peer / this: over 1 where this\n"
            "contender is faster. IoU and logits diff (max|a - b| / max|b|, highest over frames and objects, at the\n"
            "video's resolution): against ours exact.")
    if seeded:
        text += ("\nThe weights are seeded random numbers: speed and memory are those of trained weights, masks mean\n"
                 "nothing, and the IoU of a contender that is not exact says little. Use --checkpoint for that.")
    return text


def machine(cpu_info: Path = Path("/proc/cpuinfo")) -> dict[str, Any]:
    """This machine, and how busy it is before the runs."""
    fields: dict[str, str] = {}
    if cpu_info.is_file():
        pairs = (line.partition(":") for line in cpu_info.read_text().splitlines())
        for name, _, value in pairs:
            fields.setdefault(name.strip().lower(), value.strip())
    flags = set((fields.get("flags") or fields.get("features") or "").split())
    return {"cpu": fields.get("model name") or platform.processor() or platform.machine(),
            "flags": [flag for flag in FLAGS if flag in flags], "cores": os.cpu_count(), "system": platform.platform(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"), "load_average_at_start": os.getloadavg()}
