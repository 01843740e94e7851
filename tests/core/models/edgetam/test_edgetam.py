"""EdgeTAM: its encoder, its condensed memory, its sources, and what it refuses. Masks are held in tests/parity."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sam_service.client import ApiError, SamClient
from sam_service.core.device import choose_device, cpu_has_bfloat16
from sam_service.core.frames import ClipFrame
from sam_service.core.memory.bank import MemoryBank
from sam_service.core.memory.spill import DiskSpill
from sam_service.core.models.edgetam.config import FLAGS, config_for
from sam_service.core.models.edgetam.lean_repvit import LeanEdgeTamEncoder
from sam_service.core.models.edgetam.memory import condense
from sam_service.core.models.edgetam.meta_layout import from_meta, to_meta
from sam_service.core.models.edgetam.network import EdgeTamNetwork, empty_model
from sam_service.core.models.edgetam.repvit import EdgeTamEncoder, Norm, fold
from sam_service.core.models.registry import check_folder
from sam_service.core.models.sam.memory_tokens import MAP, sine_positions
from sam_service.core.models.sam.renaming import POSITION_MATRIX_COPY
from sam_service.core.predictor import VideoPredictor
from sam_service.core.prompts import PointPrompt
from sam_service.core.speedups import Speedups
from sam_service.errors import InvalidInput, ModelUnavailable
from sam_service.local import local_service
from seeded_weights import write_seeded
from torch import Tensor, nn

from tests.networks import load_network
from tests.support import settings

SHAPES = Path(__file__).parents[3] / "parity" / "reference" / "edgetam-shapes.json"
ENCODER = {"model_type": "edgetam_vision_model", "backbone_config": {"model_type": "timm_wrapper", "architecture": "repvit_m1"}}


@pytest.fixture(scope="module")
def meta_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seeded weights as Meta's `.pt` has them, with the counters that training leaves. Read only."""
    path = tmp_path_factory.mktemp("weights") / "edgetam.pt"
    write_seeded(path, "edgetam")
    state = torch.load(path)["model"]
    state["image_encoder.trunk.body.stem.conv1.bn.num_batches_tracked"] = torch.tensor(7)
    torch.save({"model": state}, path)
    return path


@pytest.fixture(scope="module")
def folder(meta_file: Path) -> Path:
    """The same in the library's layout. Read only."""
    made = meta_file.with_name("hf")
    made.mkdir()
    state = from_meta({name: value for name, value in torch.load(meta_file)["model"].items() if "num_batches" not in name})
    del state[POSITION_MATRIX_COPY]
    save_file({name: value.contiguous() for name, value in state.items()}, made / "model.safetensors")
    write_config(made, {})
    return made


def write_config(place: Path, changes: dict[str, Any]) -> None:
    config = {"model_type": "edgetam_video", **FLAGS, "memory_attention_rope_theta": 10000, "vision_config": ENCODER, **changes}
    (place / "config.json").write_text(json.dumps(config))


@pytest.fixture
def changed(folder: Path, tmp_path: Path) -> Path:
    """A folder whose configuration may be changed."""
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    return tmp_path


def test_every_name_and_shape_is_metas() -> None:
    known = json.loads(SHAPES.read_text())["common"]
    layout = to_meta(empty_model(config_for(1024)).state_dict())
    assert {name: list(value.shape) for name, value in layout.items()} == {
        name: shape for name, shape in known.items() if "num_batches" not in name}


def test_a_folder_and_metas_file_hold_the_same_network(meta_file: Path, folder: Path) -> None:
    one, other = load_network("edgetam", checkpoint=meta_file), load_network("edgetam", checkpoint=folder, image_size=256)
    assert (one.image_size, one.info.source, other.image_size) == (1024, "file edgetam.pt", 256)
    assert one.info.parameters == pytest.approx(13.9e6, rel=0.01)
    theirs = other.model.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in one.model.state_dict().items())
    projection: Any = other.model.temporal_positional_encoding_projection_layer
    assert isinstance(projection, nn.Identity)
    assert other.model.occlusion_spatial_embedding_parameter is None
    check_folder("edgetam", folder)


@pytest.mark.parametrize(("changes", "message"), [
    ({"vision_config": {"backbone_config": {"architecture": "repvit_m2.dist_in1k"}}}, "repvit_m2.*edgetam has repvit_m1"),
    ({"vision_config": {**ENCODER, "fpn_top_down_levels": [3]}}, "fpn_top_down_levels"),
    ({"enable_occlusion_spatial_embedding": True}, "1 missing .*occlusion_spatial_embedding_parameter"),
    ({"num_maskmem": "seven"}, "does not describe an EdgeTamVideoModel"),
])
def test_a_configuration_of_another_network(changed: Path, changes: dict[str, Any], message: str) -> None:
    write_config(changed, changes)
    with pytest.raises(ModelUnavailable, match=message):
        load_network("edgetam", checkpoint=changed)
    with pytest.raises(ModelUnavailable, match=message):
        check_folder("edgetam", changed)


@pytest.mark.parametrize("image_size", [128, 320, 896, 2304])
def test_impossible_image_size(image_size: int) -> None:
    with pytest.raises(InvalidInput, match=f"multiple of 256 between 256 and 2048, not {image_size}") as caught:
        load_network("edgetam", image_size=image_size)
    assert caught.value.field == "image_size"


@pytest.mark.parametrize("speedups", [Speedups(quantize=True), Speedups(memory_share=0.5)])
def test_speed_ups_that_it_does_not_have(speedups: Speedups, meta_file: Path) -> None:
    network = load_network("edgetam", checkpoint=meta_file, image_size=256)
    with pytest.raises(ModelUnavailable, match=r"SAM2_(QUANTIZE|MEMORY_SHARE) .*unset it"):
        network.prepare(choose_device("cpu"), speedups)


def test_folding_changes_the_features_by_rounding_only() -> None:
    torch.manual_seed(0)
    encoder = EdgeTamEncoder().requires_grad_(False)
    for module in encoder.modules():
        if isinstance(module, Norm):
            module.weight.uniform_(0.3, 0.6), module.bias.normal_()
            module.running_mean.normal_(), module.running_var.uniform_(0.5, 2)
    image = torch.randn(1, 3, 128, 128)

    def levels() -> list[Tensor]:
        found: Any = encoder(image).fpn_hidden_states
        return list(found)

    before = levels()
    fold(encoder)
    assert not any(isinstance(module, Norm) for module in encoder.modules())
    for one, other in zip(before, levels(), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4 * float(one.abs().max()))


@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.skipif(
    not cpu_has_bfloat16(), reason="this CPU has no bfloat16"))])
def test_the_lean_encoder_gives_the_plain_ones_features(network: EdgeTamNetwork, precision: str) -> None:
    encoder, decoder = network.model.vision_encoder, network.model.mask_decoder
    assert isinstance(encoder, LeanEdgeTamEncoder)
    torch.manual_seed(0)
    image = torch.randn(1, 3, 256, 256)
    with torch.inference_mode():
        plain: Any = EdgeTamEncoder.forward(encoder, image).fpn_hidden_states
        wanted = [decoder.conv_s0(plain[0]), decoder.conv_s1(plain[1]), plain[2]]
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            found = encoder.levels(image)
    for one, other in zip(found, wanted, strict=True):
        assert one.is_contiguous()
        differs = float((one.float() - other).abs().max() / other.abs().max())
        assert differs < (1e-5 if precision == "float32" else 0.05)


def test_maps_are_condensed_as_by_the_library_and_for_several_objects_at_once(network: EdgeTamNetwork) -> None:
    torch.manual_seed(0)
    maps = torch.randn(3, 64, 32, 32)
    positions = sine_positions(64, 32, torch.device("cpu"))
    with torch.inference_mode():
        found = condense(network.perceiver, maps, positions)
        picture = positions.T.reshape(1, 64, 32, 32)
        theirs = [network.perceiver(one, picture) for one in maps.split(1)]
        rows = network.memory_tokens().map_positions()
    assert found.shape == (3, 512, 64)
    torch.testing.assert_close(found, torch.cat([latents for latents, _ in theirs]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(rows, theirs[0][1][0])


@pytest.fixture(scope="module")
def network(meta_file: Path) -> EdgeTamNetwork:
    """At 256 pixels, prepared for the CPU. Shared: do not change it."""
    loaded = load_network("edgetam", checkpoint=meta_file, image_size=256)
    loaded.prepare(choose_device("cpu"), Speedups())
    assert isinstance(loaded, EdgeTamNetwork)
    return loaded


def test_memory_is_compact_in_the_bank_and_on_disk_and_goes_on_after_a_restart(network: EdgeTamNetwork, tmp_path: Path) -> None:
    predictor = VideoPredictor(network, choose_device("cpu"))
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (4, 256, 256, 3), np.uint8)
    frames = [ClipFrame(index, (256, 256), lambda at: pictures[at]) for index in range(4)]
    banks = [MemoryBank("a"), MemoryBank("b", DiskSpill(tmp_path, 1 << 30))]
    prompts = {number: PointPrompt(np.array([[60.0 * number, 90]], np.float32), np.array([1], np.int32))
               for number in (1, 2, 3)}
    answers = []
    for bank in banks:
        predictor.step(bank, frames[0], prompts=prompts, num_frames=4)
        predictor.step(bank, frames[1], track=[1, 2, 3], num_frames=4)
        if bank.spill is not None:
            bank = MemoryBank("c", DiskSpill(tmp_path, 1 << 30))
            bank.restore()
        answers.append([predictor.step(bank, frame, track=[1, 2, 3], num_frames=4) for frame in frames[2:]])
    for one, other in zip(sum(answers[0], []), sum(answers[1], []), strict=True):
        assert np.array_equal(one.logits, other.logits)
    kept = banks[0].objects[1].conditioning[0].state[MAP]
    assert (kept.shape, kept.dtype) == ((512, 64), torch.bfloat16)
    # 64 KiB of memory, logits of 64 x 64, a pointer of 256.
    assert max(path.stat().st_size for path in tmp_path.glob("*/*.safetensors")) < 65536 + 16384 + 1024 + 2048


def test_another_input_size_shares_the_weights(network: EdgeTamNetwork) -> None:
    larger = network.at(512)
    assert larger.image_size == 512 and larger.model.vision_encoder is network.model.vision_encoder
    picture = np.zeros((512, 512, 3), np.uint8)
    answer = VideoPredictor(larger, choose_device("cpu")).step(
        MemoryBank("a"), ClipFrame(0, (512, 512), lambda _: picture), num_frames=1,
        prompts={1: PointPrompt(np.array([[90, 90]], np.float32), np.array([1], np.int32))})
    assert answer[0].logits.shape == (128, 128)


@pytest.fixture(scope="module")
def served(meta_file: Path, video_dir: Path) -> Iterator[SamClient]:
    options = settings(sam2_model_size="edgetam", sam2_checkpoint=str(meta_file), sam2_image_size=256, sam2_video_dir=video_dir)
    with local_service(options) as url, SamClient(url) as client:
        client.wait_ready()
        yield client


def test_the_service_tracks_two_objects_with_it(served: SamClient, clip: Path) -> None:
    assert served.health()["model"]["size"] == "edgetam"
    with served.open_video(clip, max_frames=3) as video:
        video.add_object(points=[[320, 180]])
        video.add_object(points=[[100, 100]])
        frames = list(video.propagate())
    assert [sorted(frame.masks) for frame in frames] == [[1, 2]] * 3


def test_a_session_of_an_impossible_size_is_refused(served: SamClient, clip: Path) -> None:
    with pytest.raises(ApiError, match="multiple of 256") as caught:
        served.open_video(clip, image_size=384)
    assert caught.value.status == 422
