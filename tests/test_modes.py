"""Modes: what each comes to, which options go before them, and their change while the service runs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from sam_service.api.modes import Modes
from sam_service.client import SamClient
from sam_service.core import device
from sam_service.core.engine import Engine, EngineOptions
from sam_service.core.features import FeatureCache
from sam_service.demo_clip import CLICK
from sam_service.local import local_service
from sam_service.modes import MODES, ModeName
from sam_service.sessions.service import Limits
from sam_service.settings import Settings

from tests.support import settings


def test_the_default_mode_is_what_the_options_default_to() -> None:
    options = {"max_frame_dimension": "max_frame_dimension", "feature_cache_mb": "feature_cache_mb",
               "sam2_precision": "precision", "sam2_device": "device", "sam2_image_size": "image_size",
               "torch_num_threads": "threads"}
    knobs = settings().knobs()
    for option, knob in options.items():
        assert getattr(knobs, knob) == Settings.model_fields[option].get_default(), option
    assert (knobs.input_side(1024), knobs.thread_count(6)) == (1024, 6)


@pytest.mark.parametrize(("mode", "own", "side", "threads"), [
    ("performance", 1024, 512, 6), ("performance", 320, 256, 6), ("battery", 1024, 512, 3), ("battery", 128, 128, 3),
    ("quality", 1024, 1024, 6)])
def test_modes_halve_input_and_threads(mode: ModeName, own: int, side: int, threads: int) -> None:
    assert (MODES[mode].input_side(own), MODES[mode].thread_count(6)) == (side, threads)
    assert MODES[mode].thread_count(1) == 1


def test_an_option_that_is_set_goes_before_the_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_NUM_THREADS", "5")
    monkeypatch.setenv("MAX_FRAME_DIMENSION", "1920")  # also where it is what it would be anyway
    monkeypatch.setenv("SAM2_MODE", "battery")
    monkeypatch.setenv("SAM2_IMAGE_SIZE", "")  # set to nothing is not set
    found = settings()
    assert (found.knobs().threads, found.knobs().thread_count(8), found.knobs().max_frame_dimension) == (5, 5, 1920)
    assert found.knobs().input_side(1024) == 512
    assert sorted(found.fixed_knobs) == ["max_frame_dimension", "threads"]
    assert found.knobs("quality").max_frame_dimension == 1920


def test_forcing_the_cpu_goes_before_every_mode() -> None:
    found = settings(sam2_demo_force_cpu_device=True)
    assert [found.knobs(mode).device for mode in MODES] == ["cpu"] * 4
    assert found.fixed_knobs == ["device"]


@pytest.mark.parametrize("has", [True, False])
def test_the_fastest_precision_is_bfloat16_only_where_the_cpu_has_it(has: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "cpu_has_bfloat16", lambda: has)
    assert device.choose_device("cpu", precision="fastest").autocast == (torch.bfloat16 if has else None)


def test_a_lower_limit_drops_features_at_once() -> None:
    cache = FeatureCache(100)
    for index in range(3):
        cache.put(("session", index, 64), {"map": torch.zeros(8)})
    assert cache.nbytes == 96
    cache.limit(40)
    assert (cache.nbytes, cache.holds(("session", 2, 64)), cache.holds(("session", 0, 64))) == (32, True, False)


def test_a_mode_changes_while_the_service_runs(clip: Path) -> None:
    with local_service(settings(feature_cache_mb=48)) as url, SamClient(url) as client:
        client.wait_ready()
        before = client.call("GET", "/mode")
        assert (before["mode"], before["knobs"]["image_size"], before["fixed"]) == ("balanced", 320, ["feature_cache_mb"])
        with client.open_video(clip, max_frames=2) as old:
            assert old.info["model"]["image_size"] == 320
            after = client.call("PUT", "/mode", json={"mode": "battery"})
            assert after["mode"] == "battery" and after["knobs"] == after["modes"]["battery"]
            assert after["knobs"]["feature_cache_mb"] == 48
            assert after["at_next_start"] == []  # it runs on a CPU already
            health = client.health()
            assert (health["mode"], health["model"]["image_size"], health["threads"]) == (
                "battery", 256, after["knobs"]["threads"])
            with client.open_video(clip, max_frames=2) as new:
                assert new.info["model"]["image_size"] == 256
                assert new.add_object(points=[CLICK]).area > 0
            assert old.add_object(points=[CLICK]).area > 0  # at the size that it was opened with
        client.call("PUT", "/mode", json={"mode": "balanced"})
        assert client.health()["model"]["image_size"] == 320


def test_what_the_running_network_does_not_have_waits_for_the_next_start(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(EngineOptions())
    modes = Modes(settings(), engine, SimpleNamespace(limits=Limits()))  # type: ignore[arg-type]
    monkeypatch.setattr(device, "cpu_has_bfloat16", lambda: True)
    engine.policy = device.DevicePolicy(torch.device("mps"), torch.float16, "Apple Metal")
    modes.current = "battery"
    assert modes.at_next_start == ["device"]
    engine.policy = device.DevicePolicy(torch.device("cpu"), None, "no accelerator")
    assert modes.at_next_start == []
    modes.current = "performance"
    assert modes.at_next_start == ["precision"]


def test_a_start_in_a_mode(clip: Path) -> None:
    with local_service(settings(sam2_mode="performance")) as url, SamClient(url) as client:
        client.wait_ready()
        with client.open_video(clip, max_frames=1) as video:
            assert video.info["model"]["image_size"] == 256
        refused = client.http.put("/mode", json={"mode": "turbo"})
        assert refused.status_code == 422
        assert "'balanced'" in refused.json()["detail"] + str(refused.json()["errors"])
