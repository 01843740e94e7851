"""What a run shows of itself: curves.csv, lines on the terminal, pictures of masks, TensorBoard if installed."""

from __future__ import annotations

import csv
import importlib.util
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from training.batch import Batch
from training.step import MEAN, STD
from training.unroll import Outcome

EVERY = 25  # steps between two lines
COLUMNS = ("minutes", "step", "size", "rate", "loss", "click", "box", "corrected", "track", "steps_per_second")


class Curves:
    """Means of what the last EVERY steps answered, appended to curves.csv."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "curves.csv"
        if not self.path.exists():
            self.path.write_text(",".join(COLUMNS) + "\n")
        self.sums: dict[str, list[float]] = {}
        self.since = time.monotonic()
        self.board = _board(folder)

    def add(self, spent: float, total: float, step: int, size: int, kind: str, outcome: Outcome, rate: float) -> None:
        """Count one step; every so often write a line and say how much time is left."""
        loss = float(outcome.total.detach())
        seen = {kind: outcome.first, "corrected": outcome.corrected, "track": outcome.track, "loss": loss}
        for name, value in seen.items():
            if value is not None:
                self.sums.setdefault(name, []).append(value)
        if step % EVERY:
            return
        means = {name: f"{np.mean(values):.4f}" for name, values in self.sums.items()}
        speed = EVERY / (time.monotonic() - self.since)
        row = {"minutes": f"{spent / 60:.2f}", "step": step, "size": size, "rate": f"{rate:.2e}", **means}
        row["steps_per_second"] = f"{speed:.2f}"
        with self.path.open("a", newline="") as handle:
            csv.DictWriter(handle, COLUMNS).writerow(row)
        if self.board is not None:
            for name, shown in means.items():
                self.board.add_scalar(name, float(shown), step)
        told = "  ".join(f"{name} {value}" for name, value in row.items())
        print(f"{told}  left {(total - spent) / 60:.0f} min", flush=True)
        self.sums, self.since = {}, time.monotonic()


def _board(folder: Path) -> Any:
    """A TensorBoard writer, where that package is installed; the trainer does not need it."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder))


def picture(folder: Path, step: int, batch: Batch, logits: Tensor, most: int = 4) -> None:
    """A row for each of a few objects, a column for each frame: the true outline in red, the predicted one in green."""
    (folder / "pictures").mkdir(exist_ok=True)
    size = batch.pixels.shape[-1]
    rows = []
    for obj in range(min(most, len(batch.owner))):
        row = []
        for time_, pixels in enumerate(batch.pixels[batch.owner[obj]]):
            image = pixels.cpu() * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
            canvas = np.ascontiguousarray((image.clamp(0, 1) * 255).byte().permute(1, 2, 0).cpu().numpy()[..., ::-1])
            truth, guess = batch.targets[time_, obj, 0].cpu() - 0.5, logits[time_, obj, 0].cpu()
            for mask, colour in ((truth, (0, 0, 255)), (guess, (0, 255, 0))):
                full = cv2.resize(mask.float().numpy(), (size, size)) > 0
                edges = cv2.findContours(full.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
                cv2.drawContours(canvas, edges, -1, colour, 1)
            row.append(canvas)
        rows.append(np.hstack(row))
    cv2.imwrite(str(folder / "pictures" / f"{step:06d}.jpg"), np.vstack(rows))
