"""Make a checkpoint's scores believable: Platt's correction, fitted on fresh clips and folded into the last layers.

    python -m training.calibrate CHECKPOINT --out DIR [--clips N] [--textures DIR] [--cutouts DIR]

The clips are the generator's own, of seeds that neither training nor `training.evaluate` uses by default. Masks do not change,
except that an object counts as gone where its probability was below that of LEAN, whichever raw score that was.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from training.calibration import Pairs, error, platt
from training.cases import own_cases
from training.checkpoint import export
from training.evaluate import Subject, Tally

SEED = 77
LEAN = 3.5  # taken from the calibrated logit of presence: a mask that has slid on to something else is mostly rated high
HEADS = {"score": "mask_decoder.iou_prediction_head.proj_out", "object_score": "mask_decoder.pred_obj_score_head.proj_out"}


def correction(pairs: Pairs) -> tuple[float, float]:
    """Scale and shift of the logits behind predicted probabilities."""
    values = np.asarray(pairs, np.float64)
    said = values[:, 0].clip(1e-6, 1 - 1e-6)
    return platt(np.log(said / (1 - said)), values[:, 1])


def main() -> None:
    """Measure, fold, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=80)
    parser.add_argument("--textures", type=Path, help="clips whose frames serve as textures")
    parser.add_argument("--cutouts", type=Path, action="append", help="a folder of PNG files with alpha")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    args.seed, args.prompt = SEED, "click"
    torch.set_num_threads(args.threads)
    subject, tally = Subject(args.checkpoint, None), Tally()
    for case in own_cases(args):
        subject.run(case, tally, corrections=0)
    state = load_file(args.checkpoint / "model.safetensors")
    for name, pairs in (("score", tally.scores), ("object_score", tally.presences)):
        scale, shift = correction(pairs)
        shift -= LEAN if name == "object_score" else 0.0
        weight, bias = f"{HEADS[name]}.weight", f"{HEADS[name]}.bias"
        state[weight] = state[weight].float() * scale
        state[bias] = state[bias].float() * scale + shift
        print(f"{name}: error {error(pairs):.3f} over {len(pairs)} frames; logits times {scale:.3f} plus {shift:+.3f}")
    export(state, args.out, subject.predictor.network.image_size)


if __name__ == "__main__":
    main()
