"""Each kind of device from loading to the last frame, on a pretended one; and the policy that chooses it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sam_service.core.device import cast_weights, choose_device
from sam_service.core.frames import ClipFrame, Image
from sam_service.core.memory.bank import MemoryBank
from sam_service.core.memory.spill import DiskSpill
from sam_service.core.models.family import NetworkInfo
from sam_service.core.models.sam import fused_attention
from sam_service.core.models.sam.network import SamNetwork
from sam_service.core.models.sam2.config import config_for
from sam_service.core.models.sam2.network import Sam2Network
from sam_service.core.predictor import ObjectOutput, VideoPredictor
from sam_service.core.prompts import MaskPrompt, PointPrompt, Prompt
from sam_service.core.speedups import Speedups
from sam_service.errors import ModelUnavailable
from seeded_weights import write_seeded
from torch import Tensor, nn
from torch.nn import functional
from transformers import Sam2VideoModel

from tests.devices.pretended import Accelerator, Pretended, pretend
from tests.networks import load_network

WIDTH, HEIGHT = 160, 120


def tiny(folder: Path) -> SamNetwork:
    """SAM 2.1 tiny with the library's random weights."""
    torch.manual_seed(0)
    model = Sam2VideoModel(config_for("tiny", 128)).eval().requires_grad_(False)
    return Sam2Network(model, NetworkInfo("tiny", 128, "random", 0))


def edgetam(folder: Path) -> SamNetwork:
    """EdgeTAM with seeded weights."""
    write_seeded(folder / "edgetam.pt", "edgetam")
    return load_network("edgetam", checkpoint=folder / "edgetam.pt", image_size=256)


@pytest.fixture(params=["cuda", "mps"])
def accelerator(request: pytest.FixtureRequest) -> Iterator[Accelerator]:
    with pytest.MonkeyPatch.context() as patch, pretend(request.param, patch) as made:
        yield made


def picture(index: int) -> Image:
    image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    image[40:80, 30 + 5 * index:70 + 5 * index] = (200, 60, 30)
    return image


def click(x: float, y: float, label: int = 1) -> PointPrompt:
    return PointPrompt(np.array([[x, y]], np.float32), np.array([label], np.int32))


class Session:
    """A session of a made-up clip whose memories are spilled."""

    def __init__(self, network: SamNetwork, folder: Path, policy_of: str = "auto") -> None:
        self.policy = choose_device(policy_of)
        network.prepare(self.policy, Speedups())
        self.predictor = VideoPredictor(network, self.policy)
        self.folder = folder
        self._resize = lambda image: network.resize(image, network.image_size)
        self.restart()

    def restart(self) -> None:
        """As after the process came back: nothing but the spill is left."""
        self.bank = MemoryBank("a", DiskSpill(self.folder, 1 << 30))
        self.bank.restore()

    def step(self, index: int, prompts: dict[int, Prompt] | None = None, *, reverse: bool = False) -> list[ObjectOutput]:
        frame = ClipFrame(index, (WIDTH, HEIGHT), picture, self._resize)
        track = [] if prompts else [1, 2, 3, 4]
        return self.predictor.step(self.bank, frame, prompts=prompts, track=track, reverse=reverse, num_frames=12)


def play(session: Session) -> list[ObjectOutput]:
    """Four objects, a correction, a mask, a restart and the way back."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[10:40, 100:150] = True
    found = session.step(0, {1: click(50, 60), 2: click(120, 100), 3: click(20, 20), 4: MaskPrompt(mask)})
    found += [output for index in (1, 2) for output in session.step(index)]
    found += session.step(2, {1: click(90, 30, 0)}) + session.step(3, {2: MaskPrompt(mask)})
    session.restart()
    found += [output for index in (3, 4) for output in session.step(index)]
    found += session.step(4, {3: click(60, 60)})
    return found + session.step(1, reverse=True) + session.step(0, reverse=True)


@pytest.mark.parametrize("make", [tiny, edgetam])
def test_a_session_runs_through_a_restart(make: Callable[[Path], SamNetwork], accelerator: Accelerator, tmp_path: Path) -> None:
    session = Session(make(tmp_path), tmp_path / "there")
    assert session.policy.device.type == accelerator.device.type
    there, here = play(session), play(Session(make(tmp_path), tmp_path / "here", "cpu"))
    assert len(there) == 4 + 8 + 2 + 8 + 1 + 8
    for one, other in zip(there, here, strict=True):
        assert (one.object_id, one.frame_index) == (other.object_id, other.frame_index)
        assert np.isfinite(one.logits).all() and one.logits.dtype == np.float32
        assert np.mean((one.logits > 0) == (other.logits > 0)) > 0.9  # as far as the precision goes
    states = [memory.state for objects in session.bank.objects.values() for memory in objects.conditioning.values()]
    assert any(isinstance(tensor, Pretended) for state in states for tensor in state.values())


def test_a_step_waits_twice_however_many_objects(accelerator: Accelerator, tmp_path: Path) -> None:
    torch.manual_seed(0)
    session = Session(tiny(tmp_path), tmp_path)
    session.bank = MemoryBank("a")
    session.step(0, {number: click(30.0 * number, 60) for number in (1, 2, 3, 4)})
    accelerator.transfers.clear()
    session.step(1)
    assert sum(accelerator.transfers.values()) == 2, accelerator.transfers


def test_weights_are_cast_once(accelerator: Accelerator, tmp_path: Path) -> None:
    session = Session(tiny(tmp_path), tmp_path)
    assert isinstance(session.predictor.network, SamNetwork)
    dtypes = {type(layer).__name__: layer.weight.dtype for layer in session.predictor.network.model.modules()
              if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.LayerNorm))}
    assert dtypes.pop("LayerNorm") is torch.float32
    low = torch.bfloat16 if accelerator.device.type == "cuda" else torch.float16
    assert {name: dtype for name, dtype in dtypes.items() if "Norm" not in name} == {
        "Linear": low, "Conv2d": low, "ConvTranspose2d": low}


def test_metal_holds_a_part_of_the_scores_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    operands = torch.randn(2, 30, 8), torch.randn(2, 40, 8), torch.randn(2, 40, 4)
    rows: list[int] = []
    usual: Any = functional.scaled_dot_product_attention

    def watch(part: Tensor, *others: Tensor, **more: float) -> Any:
        rows.append(part.shape[-2])
        return usual(part, *others, **more)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", watch)
    monkeypatch.setattr(fused_attention, "SCORES", 4 * 2 * 40 * 12)
    whole = fused_attention.fused(*operands)
    with pretend("mps", monkeypatch) as accelerator, torch.inference_mode():
        parts: Any = fused_attention.fused(*map(accelerator.hold, operands))
    torch.testing.assert_close(parts.held, whole)
    assert rows == [30, 12, 12, 6]


def test_cast_weights_change_no_bit() -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ConvTranspose2d(8, 8, 2, stride=2), nn.Flatten(2), nn.Linear(196, 5))
    image = torch.randn(1, 3, 9, 9)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        before = layers(image)
        cast_weights(layers, torch.bfloat16)
        after = layers(image)
    assert torch.equal(before, after)


def test_emulated_bfloat16_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "T4")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert choose_device("auto").autocast is torch.float16


def test_metal_in_a_forked_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr("sam_service.core.device.is_forked", lambda: True)
    with pytest.raises(ModelUnavailable, match="SAM2_DEVICE=mps.*forked"):
        choose_device("mps")
    assert choose_device("auto").device.type == "cpu"
