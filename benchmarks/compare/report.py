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
PARTS = ("image encoder", "memory attention", "mask decoder", "memory encoder")
REFERENCE = ("tiny", "meta")  # whose speed all others are compared with, too: SAM 2.1 as its authors run it


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
    """One row for each size, contender, number of objects and whether a neighbour was busy, in the order of appearance.

    faster_than: a peer's seconds a frame over this contender's, at this contender's input size where the peer ran there; and
    the reference's, as `reference`.
    """
    groups: dict[tuple[str, str, int, bool], list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault((run["size"], run["contender"], run["objects"], run["busy"]), []).append(run)
    found = [_row(key, group) for key, group in groups.items()]
    seconds = {key: row["seconds_per_frame"]["median"] for key, row in zip(groups, found, strict=True) if row["runs"]}
    for (size, contender, objects, busy), row in zip(groups, found, strict=True):
        if not row["runs"]:
            continue
        same_size = groups[size, contender, objects, busy][0].get("same_size", "exact")
        rivals = {peer: [(size, f"{peer} {same_size}", objects, busy), (size, peer, objects, busy)] for peer in peers}
        rivals["reference"] = [(*REFERENCE, objects, busy)]
        row["faster_than"] = {
            name: round(seconds[rival] / row["seconds_per_frame"]["median"], 2) for name, keys in rivals.items()
            if (rival := next((key for key in keys if key in seconds), None)) and rival != (size, contender, objects, busy)
            and not (name in peers and contender.startswith(name))}
    return found


def _row(key: tuple[str, str, int, bool], group: list[dict[str, Any]]) -> dict[str, Any]:
    """What repeated runs of a contender have in common; speeds compared with others' are not in it yet."""
    good = [run for run in group if "error" not in run]
    row: dict[str, Any] = {**dict(zip(("size", "contender", "objects", "busy"), key, strict=True)),
                           "runs": len(good), "failed": len(group) - len(good)}
    if row["failed"]:
        row["error"] = next(run["error"] for run in group if "error" in run)
    if good:
        row["seconds_per_frame"] = summary([steady(run["frames_s"], run.get("every", 1)) for run in good])
        row["cpu_seconds_per_frame"] = summary([steady(run["frames_cpu_s"], run.get("every", 1)) for run in good])
        for name in ("first_click_s", "first_click_without_encoder_s", "peak_rss_mib"):
            row[name] = summary([run[name] for run in good])
        row |= {name: good[0][name] for name in ("mask_iou", "logits_difference") if name in good[0]}
    return row


def table(found: list[dict[str, Any]], peers: Sequence[str] = PEERS) -> str:
    """The rows as a table in Markdown."""
    head = ["objects", "model", "contender", "s a frame", "low-high", "first click s", "on encoded", "peak MiB",
            *[f"{peer} / this" for peer in peers], "SAM 2.1 tiny of Meta's / this", "IoU mean", "min", "logits diff"]
    lines = [head, *[_cells(row, peers) for row in sorted(found, key=lambda row: (row["busy"], row["objects"]))]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    lines.insert(1, ["-" * width for width in widths])
    texts = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines]
    errors = [f"\n{row['size']} {row['contender']}, objects: {row['objects']}, {row['failed']} of "
              f"{row['failed'] + row['runs']} runs failed:\n{row['error']}" for row in found if row["failed"]]
    return "\n".join(texts + errors)


def profile(runs: list[dict[str, Any]]) -> str:
    """Where the time of a frame with one object goes once the memory is full, as a table in Markdown.

    Empty where no run counted it.
    """
    lines = []
    for run in runs:
        if run.get("parts_s") and run["objects"] == 1 and not run["busy"] and not run["repeat"] and run.get("every", 1) == 1:
            parts = {"image encoder": run["encoder_s"], **run["parts_s"]}
            seconds = {name: steady(times) for name, times in parts.items()}
            whole = steady(run["frames_s"])
            lines.append([run["size"], run["contender"], *(f"{seconds.get(name, 0):.3f}" for name in PARTS),
                          f"{whole - sum(seconds.values()):.3f}", f"{whole:.3f}"])
    head = ["model", "contender", *PARTS, "rest", "a frame"]
    texts = ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *lines)]
    return "\n".join(texts) if lines else ""


def _cells(row: dict[str, Any], peers: Sequence[str]) -> list[str]:
    names = [str(row["objects"]), row["size"], row["contender"] + ", busy neighbour" * row["busy"]]
    if not row["runs"]:
        return [*names, "failed", *[""] * (len(peers) + 8)]
    speed = row["seconds_per_frame"]
    iou, difference = row.get("mask_iou"), row.get("logits_difference")
    return [
        *names, f"{speed['median']:.3f}", f"{speed['low']:.3f}-{speed['high']:.3f}", f"{row['first_click_s']['median']:.3f}",
        f"{row['first_click_without_encoder_s']['median']:.3f}", f"{row['peak_rss_mib']['median']:.0f}",
        *[f"{row['faster_than'][peer]:.2f}" if peer in row["faster_than"] else "-" for peer in (*peers, "reference")],
        *([f"{iou['mean']:.4f}", f"{iou['min']:.4f}"] if iou else ["-", "-"]),
        f"{difference['max']:.1e}" if difference else "-",
    ]


def note(seeded: bool) -> str:
    """How to read the table."""
    text = (f"s a frame: median over frames from {STEADY_FROM} on; low-high: of the runs. peer / this: over 1 where this\n"
            "contender is faster. IoU and logits diff (max|a - b| / max|b|, highest over frames and objects, at the\n"
            "video's resolution): of ours against ours exact, of a peer against ours at its input size. busy neighbour:\n"
            "beside a process that multiplies matrices on all cores.")
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
