"""The embedded network as the engine uses it: frames of any shape, prompts where they are meant, memories from anywhere."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from sam_service.core.build import build_predictor, clip_frame
from sam_service.core.feature_files import FeatureFiles
from sam_service.core.frames import ClipFrame, Mask, upsample
from sam_service.core.memory.bank import MemoryBank
from sam_service.core.memory.spill import DiskSpill
from sam_service.core.models.nano.architecture import Features, Memory, Network, Past
from sam_service.core.models.nano.encoder import Encoder, InvertedBlock, SameConv
from sam_service.core.models.nano.input_size import input_size
from sam_service.core.predictor import ObjectOutput, VideoPredictor
from sam_service.core.prompts import MaskPrompt, PointPrompt
from torch import Tensor
from torch.nn import functional as F

WIDTH, HEIGHT, SIDE = 320, 180, 160


@pytest.fixture(scope="module")
def predictor() -> VideoPredictor:
    return build_predictor(image_size=SIDE)


def picture(index: int) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """Two discs of different colours on a rough ground, one of which moves."""
    ground = np.random.default_rng(0).integers(0, 90, (HEIGHT // 10, WIDTH // 10, 3), np.uint8)
    image = cv2.resize(ground, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    cv2.circle(image, (60 + 4 * index, 80), 30, (230, 170, 60), -1, cv2.LINE_AA)
    cv2.circle(image, (270, 110), 34, (60, 150, 230), -1, cv2.LINE_AA)
    return np.asarray(image, np.uint8)


def frame(predictor: VideoPredictor, index: int) -> ClipFrame:
    return clip_frame(predictor, index, (WIDTH, HEIGHT), picture)


def click(x: float, y: float, label: int = 1) -> PointPrompt:
    return PointPrompt(np.array([[x, y]], np.float32), np.array([label], np.int32))


def mask(output: ObjectOutput) -> Mask:
    return np.asarray(upsample(output.logits, WIDTH, HEIGHT) > 0)


@pytest.mark.parametrize("height, width", [(720, 1280), (480, 854), (1280, 720), (300, 400), (64, 64), (100, 1000)])
@pytest.mark.parametrize("side", [128, 320])
def test_inputs_have_the_frames_aspect_and_a_bounded_area(height: int, width: int, side: int) -> None:
    rows, columns = input_size(height, width, side)
    assert rows % 32 == 0 and columns % 32 == 0
    assert 0.6 < rows * columns / side**2 < 1.5
    if side == 320 and max(width / height, height / width) < 2:
        assert abs(np.log(columns / rows * height / width)) < 0.12


def test_clicks_land_where_they_were_put_on_a_wide_frame(predictor: VideoPredictor) -> None:
    prompts = {1: click(60, 80), 2: click(270, 110)}
    left, right = map(mask, predictor.step(MemoryBank("wide"), frame(predictor, 0), prompts=prompts, num_frames=1))
    assert left[80, 60] and not left[110, 270]
    assert right[110, 270] and not right[80, 60]


def test_a_mask_is_its_own_answer(predictor: VideoPredictor) -> None:
    given = np.zeros((HEIGHT, WIDTH), bool)
    given[50:110, 30:90] = True
    [output] = predictor.step(MemoryBank("given"), frame(predictor, 0), prompts={1: MaskPrompt(given)}, num_frames=1)
    found = mask(output)
    assert (found & given).sum() / (found | given).sum() > 0.93
    dot = np.zeros((HEIGHT, WIDTH), bool)
    dot[70, 50] = True
    [small] = predictor.step(MemoryBank("dot"), frame(predictor, 0), prompts={1: MaskPrompt(dot)}, num_frames=1)
    ys, xs = np.nonzero(small.logits > 0)
    rows, columns = small.logits.shape
    assert ys.tolist() == [int(70.5 / HEIGHT * rows)] and xs.tolist() == [int(50.5 / WIDTH * columns)]
    [empty] = predictor.step(MemoryBank("none"), frame(predictor, 0), prompts={1: MaskPrompt(given & False)}, num_frames=1)
    assert not mask(empty).any() and empty.object_score < 0.01


def track(predictor: VideoPredictor, bank: MemoryBank, frames: range,
          objects: tuple[int, ...] = (1, 2)) -> list[list[ObjectOutput]]:
    return [predictor.step(bank, frame(predictor, index), track=objects, num_frames=20) for index in frames]


def prompted(predictor: VideoPredictor, bank: MemoryBank) -> MemoryBank:
    predictor.step(bank, frame(predictor, 0), prompts={1: click(60, 80), 2: click(270, 110)}, num_frames=20)
    return bank


def test_a_restart_gives_the_same_bits(predictor: VideoPredictor, tmp_path: Path) -> None:
    undisturbed = track(predictor, prompted(predictor, MemoryBank("undisturbed")), range(1, 9))
    track(predictor, prompted(predictor, MemoryBank("before", DiskSpill(tmp_path, 1 << 30))), range(1, 5))
    bank = MemoryBank("after", DiskSpill(tmp_path, 1 << 30))
    bank.restore()
    for wanted, found in zip(undisturbed[4:], track(predictor, bank, range(5, 9)), strict=True):
        for one, other in zip(wanted, found, strict=True):
            assert np.array_equal(one.logits, other.logits) and one.score == other.score


def test_features_from_disk_give_the_same_bits(predictor: VideoPredictor, tmp_path: Path) -> None:
    network, files = predictor.network, FeatureFiles(tmp_path / "features", 1 << 30)
    features = network.encode(network.resize(picture(0), SIDE))
    files.save(("key", 0, SIDE), features)
    found = files.load(("key", 0, SIDE), torch.device("cpu"))
    assert found is not None and found.keys() == features.keys()
    for name, tensor in features.items():
        assert torch.equal(tensor, found[name]) and tensor.dtype == found[name].dtype
        assert tensor.is_contiguous()


def test_objects_together_are_as_alone(predictor: VideoPredictor) -> None:
    together = track(predictor, prompted(predictor, MemoryBank("together")), range(1, 5))
    bank = prompted(predictor, MemoryBank("alone"))
    alone = track(predictor, bank, range(1, 5), (2,))
    for both, one in zip(together, alone, strict=True):
        assert np.array_equal(both[1].logits, one[0].logits)


def test_what_a_frame_leaves_is_small(predictor: VideoPredictor) -> None:
    bank = prompted(predictor, MemoryBank("small"))
    predictor.step(bank, frame(predictor, 1), track=[1], num_frames=20)
    memory = bank.objects[1].conditioning[0]
    held = sum(tensor.numel() * tensor.element_size() for tensor in memory.state.values())
    assert held < 2 * SIDE**2


def test_matching_in_blocks_is_matching_at_once() -> None:
    """Inference goes through cells in blocks; training, which needs gradients, takes all at once."""
    torch.manual_seed(0)
    network = Network().requires_grad_(False)
    pixels = torch.randn(2, 3, 160, 256)
    features = network.encode(pixels)
    memory = network.memory_of(features, torch.randn(2, 1, 40, 64))
    pasts = [Past(memory, True, 7), Past(memory, False, 1), Past(memory, False, 2)]
    with torch.no_grad():
        blocks = network.readout(features, pasts)
    whole = network.readout(features, pasts)
    assert torch.allclose(blocks.at16, whole.at16, atol=1e-5) and torch.allclose(blocks.at8, whole.at8, atol=1e-5)


def test_training_may_follow_inference_in_one_process() -> None:
    network = Network()
    features = network.encode(torch.randn(1, 3, 96, 96))
    with torch.inference_mode():
        seen = network.encode(torch.randn(1, 3, 96, 96))
        network.readout(seen, [Past(network.memory_of(seen, torch.zeros(1, 1, 24, 24)), False, 1)])
    readout = network.readout(features, [Past(network.memory_of(features, torch.zeros(1, 1, 24, 24)), False, 1)])
    readout.at8.sum().backward()
    assert network.reach.grad is not None


def test_recent_memories_are_searched_nearby() -> None:
    """The same cell at the far end of the frame counts in a prompted memory, and not in a recent one."""
    network = Network().requires_grad_(False)
    keys16, keys8 = torch.zeros(1, 64, 4, 64), torch.zeros(1, 32, 8, 128)
    keys16[:, 0], keys8[:, 0] = 1, 1  # all cells are alike
    values8 = torch.zeros(1, 4, 8, 128)
    values8[..., 96:] = 1
    memory = Memory(keys16, torch.zeros(1, 64, 4, 64), keys8, values8)
    p4, p8, p16 = (torch.zeros(1, width, 4 * scale, 64 * scale) for width, scale in ((32, 4), (64, 2), (128, 1)))
    features = Features(p4, p8, p16, keys8, keys16)
    at8 = network.readout(features, [Past(memory, True, 1), Past(memory, False, 1)]).at8
    prompted8, recent8 = at8[0, 0], at8[0, 5]
    assert prompted8[4, 10] == pytest.approx(0.25, abs=1e-4)
    assert recent8[4, 10] < 1e-4 and recent8[4, 120] > 0.99


def test_the_encoder_takes_imagenet_weights() -> None:
    """Convolution and batch normalisation apart, as the weights come, give what the merged layers give."""
    torch.manual_seed(0)
    encoder = Encoder().eval()
    state: dict[str, Tensor] = {}
    pairs: list[tuple[str, str, SameConv]] = [("_conv_stem", "_bn0", encoder.stem)]
    for n, block in enumerate(encoder.blocks):
        assert isinstance(block, InvertedBlock)
        at = f"_blocks.{n}."
        if block.expand is not None:
            pairs.append((at + "_expand_conv", at + "_bn0", block.expand))
        pairs += [(at + "_depthwise_conv", at + "_bn1", block.spatial), (at + "_project_conv", at + "_bn2", block.project)]
    for conv, norm, layer in pairs:
        state[f"{conv}.weight"], width = torch.randn_like(layer.weight) * 0.2, len(layer.weight)
        for name, value in (("weight", torch.rand(width) + 0.5), ("bias", torch.randn(width)),
                            ("running_mean", torch.randn(width)), ("running_var", torch.rand(width) + 0.5)):
            state[f"{norm}.{name}"] = value
    encoder.load_imagenet(state)
    conv, norm, layer = pairs[0]
    x = torch.randn(1, 3, 33, 47)
    padded = F.pad(x, (1, 1, 1, 1))  # TensorFlow's padding of odd sides at stride 2
    plain = F.conv2d(padded, state[f"{conv}.weight"], stride=2)
    mean, variance, weight, bias = (state[f"{norm}.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))
    wanted = F.batch_norm(plain, mean, variance, weight, bias, eps=1e-3)
    assert torch.allclose(layer(x), wanted, atol=1e-4)
