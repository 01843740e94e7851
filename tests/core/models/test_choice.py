"""What `auto` stands for as a model size: the advice by machine, and how the service and `doctor` say it."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError
from sam_service.client import SamClient
from sam_service.commands.doctor import _model as model_check
from sam_service.core.models.choice import choose
from sam_service.local import local_service

from tests.support import settings

EMPTY = {"nano"}


@pytest.mark.parametrize(("device", "threads", "present", "offline", "size", "side"), [
    ("cpu", 2, EMPTY, False, "edgetam", 512),
    ("cpu", 7, EMPTY, False, "edgetam", 512),
    ("cpu", 8, EMPTY, False, "edgetam", None),
    ("cpu", 2, EMPTY | {"edgetam", "tiny"}, True, "edgetam", 512),
    ("cpu", 2, EMPTY | {"tiny", "large"}, True, "tiny", 512),
    ("cpu", 16, EMPTY, True, "nano", None),
    ("mps", 8, EMPTY, False, "tiny", None),
    ("mps", 8, EMPTY | {"edgetam"}, True, "edgetam", None),
    ("cuda", 2, EMPTY, False, "large", None),
    ("cuda", 2, EMPTY | {"small", "tiny"}, True, "small", None),
])
def test_the_advice_by_machine(device: str, threads: int, present: set[str], offline: bool, size: str,
                               side: int | None) -> None:
    choice = choose(device, threads, present, offline=offline)
    assert (choice.size, choice.image_size) == (size, side)
    assert choice.reason.startswith(size)


def test_what_is_passed_over_is_said() -> None:
    assert choose("cpu", 2, EMPTY | {"tiny"}, offline=True).reason == (
        "tiny at 512 pixels is advised for a CPU with 2 threads; weights of edgetam are not on this machine, and "
        "HF_HUB_OFFLINE is set")
    assert choose("cpu", 8, EMPTY, offline=True).reason == (
        "nano, the embedded model, for a CPU with 8 threads; weights of edgetam, tiny are not on this machine, and "
        "HF_HUB_OFFLINE is set")
    assert choose("cuda", 1, EMPTY, offline=False).reason == "large at 1024 pixels is advised for a CUDA device"


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub's cache with nothing in it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def test_the_service_says_what_it_chose_and_why(empty_cache: None) -> None:
    options = settings(sam2_model_size="auto", sam2_device="cpu", hf_hub_offline=True)
    with local_service(options) as url, SamClient(url) as client:
        model = client.wait_ready()["model"]
        assert httpx.get(f"{url}/models").json()["current"] == "nano"
    assert (model["size"], model["image_size"]) == ("nano", 320)
    assert "edgetam, tiny are not on this machine, and HF_HUB_OFFLINE is set" in model["chosen"]


def test_a_named_size_is_not_explained(client: SamClient) -> None:
    assert client.wait_ready()["model"]["chosen"] is None


def test_doctor_says_what_is_chosen_and_why(empty_cache: None) -> None:
    said = model_check(settings(sam2_model_size="auto", sam2_device="cpu", torch_num_threads=2))
    assert said.startswith("edgetam at 512 pixels is advised for a CPU with 2 threads; edgetam: its weights are not on this")


@pytest.mark.parametrize("option", ["sam2_checkpoint", "sam2_revision", "sam2_checkpoint_sha256"])
def test_auto_does_not_go_with_the_weights_of_one_size(option: str) -> None:
    with pytest.raises(ValidationError, match="SAM2_MODEL_SIZE=auto does not go with SAM2_CHECKPOINT.*name that size"):
        settings(sam2_model_size="auto", **{option: "a" * 64})

