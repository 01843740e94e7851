"""Compiling the image encoder: where it may be asked for, and that it changes nothing but the time."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sam_service.client import SamClient
from sam_service.core.engine import Engine, EngineOptions
from sam_service.core.speedups import COMPILE_MODES, Speedups, compile_encoder
from sam_service.demo_clip import CLICK
from sam_service.errors import ModelUnavailable
from sam_service.local import local_service

from tests.support import iou, settings


def test_a_device_that_it_does_not_work_on_is_an_error() -> None:
    assert COMPILE_MODES["cuda"] == "reduce-overhead"
    with pytest.raises(ModelUnavailable, match="SAM2_COMPILE works on cuda and cpu"):
        compile_encoder(torch.nn.Linear(1, 1), torch.device("mps"))


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_a_machine_without_a_compiler_is_an_error(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ModelUnavailable, match=f"SAM2_COMPILE on {kind} needs one of"):
        compile_encoder(torch.nn.Linear(1, 1), torch.device(kind))


def test_not_together_with_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sam_service.core.speedups.quantize_encoder", lambda encoder, device: 1)
    engine = Engine(EngineOptions(image_size=128, speedups=Speedups(quantize=True, compile=True)))
    engine.start()
    engine.stop()
    assert engine.failure is not None
    assert "exclude each other" in engine.failure.message


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler: apt-get install g++")
def test_masks_are_the_same(tmp_path: Path, clip: Path) -> None:
    masks = []
    for compiled in (False, True):
        options = settings(sam2_compile=compiled, sam2_image_size=192)
        with local_service(options, data_dir=tmp_path / str(compiled)) as url, SamClient(url) as client:
            client.wait_ready(timeout_s=400)
            with client.open_video(clip, max_frames=4) as video:
                video.add_object(points=[list(CLICK)])
                masks.append([frame.masks[1].mask for frame in video.propagate()])
    assert min(iou(one, other) for one, other in zip(*masks, strict=True)) > 0.99
    assert np.asarray(masks[0][0]).any()
