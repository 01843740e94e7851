"""The embedded model answers while weights are fetched, says so, and hands new sessions over to the model asked for."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from sam_service.client import SamClient
from sam_service.core.models import fetching
from sam_service.core.models.registry import SIZES
from sam_service.core.models.sam2.config import config_for
from sam_service.core.models.sam2.network import empty_model
from sam_service.demo_clip import CLICK
from sam_service.local import local_service

from tests.hub import Hub, serve_hub
from tests.support import settings

REPO = str(SIZES["tiny"].repo)
LIMIT_S = 240


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub without repositories, and an empty cache."""
    with serve_hub() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", running.url + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(fetching, "FIRST_PAUSE_S", 0.2)
        monkeypatch.setattr(fetching, "LONGEST_PAUSE_S", 0.5)
        yield running


def publish(hub: Hub, folder: Path, *, whole: bool = True) -> None:
    """Put tiny on the hub, with weights of zeros; or a file that is not tiny."""
    config = config_for("tiny")
    folder.mkdir()
    shapes = {name: value.shape for name, value in empty_model(config).state_dict().items()} if whole else {"other": (1,)}
    save_file({name: torch.zeros(shape, dtype=torch.half) for name, shape in shapes.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    hub.publish(REPO, "c0" * 20, folder, "main")


def until(client: SamClient, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The health, once something holds of it."""
    deadline = time.monotonic() + LIMIT_S
    while not holds(health := client.health()):
        assert time.monotonic() < deadline, health
        time.sleep(0.05)
    return health


def test_the_embedded_model_answers_meanwhile_and_its_sessions_keep_it(hub: Hub, tmp_path: Path, clip: Path) -> None:
    chosen = settings(sam2_model_size="tiny", sam2_meanwhile="embedded", sam2_image_size=256)
    with local_service(chosen) as url, SamClient(url) as client:
        client.wait_ready()
        waiting = until(client, lambda health: health["fetching"]["state"] == "waiting")
        assert waiting["model"]["size"] == "nano" and "embedded" in waiting["model"]["note"]
        assert "no such repository" in waiting["fetching"]["error"] and waiting["fetching"]["retry_in_s"] is not None
        old = client.initialize(clip, max_frames=3)
        first = old.add_object(points=[CLICK])
        hub.pause_s = 0.02
        publish(hub, tmp_path / "tiny")
        under_way = until(client, lambda health: health["fetching"] is None
                          or (health["fetching"]["total_bytes"] or 0) > 70e6)["fetching"]
        assert under_way is not None and 0 < under_way["done_bytes"] <= under_way["total_bytes"]
        assert under_way["label"] == "SAM 2.1 tiny"
        health = until(client, lambda health: health["fetching"] is None)
        assert health["model"]["size"] == "tiny"
        with client.open_video(clip, max_frames=1) as new:
            assert new.info["model"]["size"] == "tiny"
        assert client.session(old.session_id).info["model"]["size"] == "nano"
        assert len(list(old.propagate())) == 3
        again = old.add_object(points=[CLICK])
        assert again.area == first.area > 0


def test_weights_that_cannot_be_used_leave_the_embedded_model_and_say_why(hub: Hub, tmp_path: Path) -> None:
    publish(hub, tmp_path / "other", whole=False)
    with local_service(settings(sam2_model_size="tiny", sam2_meanwhile="embedded")) as url, SamClient(url) as client:
        client.wait_ready()
        health = until(client, lambda health: health["fetching"]["state"] == "failed")
        assert health["ready"] and health["model"]["size"] == "nano"
        assert "the tensors in" in health["fetching"]["error"]


@pytest.mark.parametrize("options", [{"hf_hub_offline": True}, {"sam2_meanwhile": "wait"}])
def test_nothing_answers_in_its_place_unless_asked_for_and_on_its_way(hub: Hub, options: dict[str, Any]) -> None:
    chosen = settings(**{"sam2_model_size": "tiny", "sam2_meanwhile": "embedded"} | options)
    with local_service(chosen) as url, SamClient(url) as client:
        health = until(client, lambda health: health["error"] is not None)
        assert (health["ready"], health["model"], health["fetching"]) == (False, None, None)
