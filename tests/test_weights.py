"""Loading: every source, every way in which one can be wrong, and all that depends on the image size."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sam_service.core.models.catalogue import available_models
from sam_service.core.models.nano.sizes import FOLDER
from sam_service.core.models.registry import SIZES
from sam_service.core.models.sam.configuration import with_rope_parameters
from sam_service.core.models.sam2.config import config_for
from sam_service.core.models.sam2.meta_layout import POSITION_MATRIX_COPY, from_meta, to_meta
from sam_service.core.models.sam2.network import empty_model
from sam_service.core.models.sam2.sizes import SIZES as SIZES_OF_SAM2
from sam_service.errors import InvalidInput, ModelUnavailable
from torch import Tensor

from tests.networks import load_network

SHAPES = json.loads((Path(__file__).parent / "parity" / "reference" / "meta-shapes.json").read_text())
SAM_SIZES = list(SIZES_OF_SAM2)
Write = Callable[[dict[str, Tensor]], Path]


def random_state(size: str) -> dict[str, Tensor]:
    """Random weights in Meta's layout."""
    generator = torch.Generator().manual_seed(0)
    layout = to_meta(empty_model(config_for(size)).state_dict())
    return {name: torch.randn(value.shape, generator=generator) for name, value in layout.items()}


@pytest.fixture(scope="module")
def tiny_state() -> dict[str, Tensor]:
    return random_state("tiny")


@pytest.fixture
def write_pt(tmp_path: Path) -> Write:
    def write(state: dict[str, Tensor]) -> Path:
        torch.save({"model": state}, tmp_path / "weights.pt")
        return tmp_path / "weights.pt"

    return write


@pytest.fixture(scope="module")
def tiny_file(tiny_state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole `.pt` of size tiny. Read only."""
    path = tmp_path_factory.mktemp("meta") / "weights.pt"
    torch.save({"model": tiny_state}, path)
    return path


@pytest.fixture(scope="module")
def tiny_folder(tiny_file: Path) -> Path:
    """A Hugging Face folder as the library writes it. Read only: tests that change it copy it first."""
    folder = tiny_file.with_name("hf")
    load_network("tiny", checkpoint=tiny_file).model.save_pretrained(folder)
    return folder


@pytest.fixture
def changed_folder(tiny_folder: Path, tmp_path: Path) -> Iterator[Path]:
    yield Path(shutil.copytree(tiny_folder, tmp_path / "hf"))


@pytest.mark.parametrize("size", SAM_SIZES)
def test_every_name_and_shape_is_metas(size: str) -> None:
    layout = to_meta(empty_model(config_for(size)).state_dict())
    assert {name: list(value.shape) for name, value in layout.items()} == {**SHAPES["common"], **SHAPES[size]}


@pytest.mark.parametrize("size", SAM_SIZES)
def test_layout_is_its_own_inverse(size: str) -> None:
    library = empty_model(config_for(size)).state_dict()
    there_and_back = from_meta(to_meta(library))
    assert {name: value.shape for name, value in there_and_back.items()} == {
        name: value.shape for name, value in library.items()
    }


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_meta_file_round_trip(size: str, write_pt: Write) -> None:
    state = random_state(size)
    loaded = load_network(size, checkpoint=write_pt(state))
    back = to_meta(loaded.model.state_dict())
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)
    assert (loaded.info.size, loaded.info.image_size) == (size, 1024)
    assert loaded.info.source == "file weights.pt"
    assert loaded.info.parameters == pytest.approx(SIZES[size].parameters_m * 1e6, rel=0.01)


def test_loaded_model_is_ready_to_run(tiny_file: Path) -> None:
    model = load_network("tiny", checkpoint=tiny_file, image_size=256).model
    tensors = [*model.parameters(), *model.buffers()]
    assert all(tensor.device.type == "cpu" and not tensor.requires_grad for tensor in tensors)
    assert all(tensor.dtype == torch.float32 for tensor in tensors if tensor.is_floating_point())
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("image_size", [128, 256, 512])
def test_image_size_is_derived_everywhere(image_size: int, tiny_file: Path, tiny_state: dict[str, Tensor]) -> None:
    model = load_network("tiny", checkpoint=tiny_file, image_size=image_size).model
    side = image_size // 16
    assert model.config.image_size == model.image_size == image_size
    assert model.prompt_encoder.input_image_size == image_size
    assert model.prompt_encoder.image_embedding_size == (side, side)
    assert model.backbone_feature_sizes == [[4 * side] * 2, [2 * side] * 2, [side] * 2]
    assert model.memory_attention.position_ids.shape == (side * side, 2)
    assert torch.equal(model.vision_encoder.backbone.pos_embed, tiny_state["image_encoder.trunk.pos_embed"])
    with torch.inference_mode():
        levels = model.vision_encoder(torch.zeros(1, 3, image_size, image_size)).fpn_hidden_states
    assert [list(level.shape[-2:]) for level in levels] == model.backbone_feature_sizes


@pytest.mark.parametrize("image_size", [0, 96, 250, 2080])
def test_impossible_image_size(image_size: int) -> None:
    with pytest.raises(InvalidInput, match="multiple of 32") as caught:
        load_network("tiny", image_size=image_size)
    assert caught.value.field == "image_size"


def test_unknown_size() -> None:
    with pytest.raises(InvalidInput, match="huge") as caught:
        load_network("huge")
    assert caught.value.field == "size"


@pytest.mark.parametrize("asked", ["small", "base_plus"])
def test_weights_of_another_size(asked: str, tiny_file: Path) -> None:
    with pytest.raises(ModelUnavailable, match=f"not those of {asked}"):
        load_network(asked, checkpoint=tiny_file)


def test_missing_tensors_are_named(write_pt: Write, tiny_state: dict[str, Tensor]) -> None:
    state = {name: value for name, value in tiny_state.items() if name not in ("no_obj_embed_spatial", "no_obj_ptr")}
    with pytest.raises(ModelUnavailable, match=r"2 missing \(.*no_obj_ptr.*sam2.1_hiera_tiny.pt"):
        load_network("tiny", checkpoint=write_pt(state))


def test_unknown_tensors_are_named(write_pt: Write, tiny_state: dict[str, Tensor]) -> None:
    with pytest.raises(ModelUnavailable, match=r"1 unknown \(memory_attention.extra\)"):
        load_network("tiny", checkpoint=write_pt({**tiny_state, "memory_attention.extra": torch.zeros(1)}))


def test_wrong_shape_is_named(write_pt: Write, tiny_state: dict[str, Tensor]) -> None:
    with pytest.raises(ModelUnavailable, match=r"1 of another shape \(no_obj_ptr\)"):
        load_network("tiny", checkpoint=write_pt({**tiny_state, "no_obj_ptr": torch.zeros(1, 128)}))


def test_truncated_file(tiny_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "half.pt"
    path.write_bytes(tiny_file.read_bytes()[:1_000_000])
    with pytest.raises(ModelUnavailable, match="truncated"):
        load_network("tiny", checkpoint=path)


class _Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return sys.exit, (66,)


def test_pickle_with_code_is_refused(tmp_path: Path) -> None:
    torch.save({"model": _Malicious()}, tmp_path / "evil.pt")
    with pytest.raises(ModelUnavailable, match="holds more than tensors"):
        load_network("tiny", checkpoint=tmp_path / "evil.pt")


@pytest.mark.parametrize("content", [{"weights": {}}, [1, 2], {"model": 3}, {"model": {"a": 1}}])
def test_file_without_a_state_dict(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(ModelUnavailable, match="does not hold"):
        load_network("tiny", checkpoint=tmp_path / "other.pt")


def test_folder_round_trip(tiny_folder: Path, tiny_state: dict[str, Tensor]) -> None:
    loaded = load_network("tiny", checkpoint=str(tiny_folder), image_size=512)
    back = to_meta(loaded.model.state_dict())
    assert all(torch.equal(back[name], tiny_state[name]) for name in tiny_state)
    assert (loaded.info.source, loaded.image_size) == ("folder hf", 512)


def test_folder_may_keep_the_position_matrix_once(changed_folder: Path) -> None:
    state = load_file(changed_folder / "model.safetensors")
    state.pop(POSITION_MATRIX_COPY, None)
    save_file(state, changed_folder / "model.safetensors")
    assert load_network("tiny", checkpoint=changed_folder).info.size == "tiny"


def test_folder_that_names_the_rotary_base_the_old_way(changed_folder: Path) -> None:
    raw = json.loads((changed_folder / "config.json").read_text())
    raw.pop("rope_parameters")
    (changed_folder / "config.json").write_text(json.dumps(raw | {"memory_attention_rope_theta": 500.0}))
    assert load_network("tiny", checkpoint=changed_folder).config.rope_parameters["rope_theta"] == 500.0
    assert with_rope_parameters({"memory_attention_rope_theta": 500.0}) == {
        "rope_parameters": {"rope_type": "axial", "rope_theta": 500.0}}


def test_folder_of_another_size(tiny_folder: Path) -> None:
    with pytest.raises(ModelUnavailable, match="blocks_per_stage"):
        load_network("small", checkpoint=tiny_folder)


def test_folder_that_lacks_tensors(changed_folder: Path) -> None:
    state = load_file(changed_folder / "model.safetensors")
    del state["no_object_pointer"]
    save_file(state, changed_folder / "model.safetensors")
    with pytest.raises(ModelUnavailable, match=r"1 missing \(no_object_pointer\)"):
        load_network("tiny", checkpoint=changed_folder)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_damaged_folder(file: str, changed_folder: Path) -> None:
    path = changed_folder / file
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ModelUnavailable, match="in good order"):
        load_network("tiny", checkpoint=changed_folder)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="no file or folder .*absent.pt"):
        load_network("tiny", checkpoint=tmp_path / "absent.pt")


@pytest.mark.parametrize("checkpoint", [None, "owner/name"])
def test_offline_hub(checkpoint: str | None, tmp_path: Path) -> None:
    lines: list[str] = []
    with pytest.raises(ModelUnavailable, match="not in the local cache.*sam2.1_hiera_large.pt") as caught:
        load_network("large", checkpoint=checkpoint, cache_dir=tmp_path, offline=True, progress=lines.append)
    assert (checkpoint or "facebook/sam2.1-hiera-large") in str(caught.value)
    assert lines and "fetching" in lines[0]


def test_nano_is_embedded() -> None:
    loaded = load_network("nano")
    assert (loaded.info.size, loaded.info.source, loaded.image_size) == ("nano", "embedded", SIZES["nano"].image_size)
    assert loaded.info.parameters == pytest.approx(SIZES["nano"].parameters_m * 1e6, rel=0.05)
    assert load_network("nano", image_size=128).image_size == 128


def test_damaged_nano(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FOLDER, tmp_path / "nano"))
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(ModelUnavailable, match="sha256"):
        load_network("nano", checkpoint=folder)


def test_nano_is_not_read_from_a_file(write_pt: Write) -> None:
    with pytest.raises(ModelUnavailable, match="folder"):
        load_network("nano", checkpoint=write_pt({}))


def test_available_models_without_a_cache(tmp_path: Path) -> None:
    models = {info.size: info for info in available_models(tmp_path)}
    assert list(models) == list(SIZES)
    assert [size for size, info in models.items() if info.present] == ["nano"]
    assert models["nano"].note and models["tiny"].source == "facebook/sam2.1-hiera-tiny"
