"""Health, readiness, models, the key, the documentation, a full queue and a network that breaks."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import torch
from sam_service.client import SamClient, ServiceProblem
from sam_service.core.memory.selection import Selection
from sam_service.core.models.family import Step, Tracked
from sam_service.demo_clip import CLICK
from sam_service.local import local_service

from tests import colour_family
from tests.colour_family import ColourNetwork
from tests.support import settings


@pytest.fixture
def colour() -> Iterator[str]:
    yield colour_family.register()
    colour_family.forget()


def test_health_tells_what_answers(client: SamClient) -> None:
    health = client.call("GET", "/health")
    assert health["ready"]
    assert health["device"] == "cpu"
    assert {"mps_available", "apple_silicon", "threads", "queue", "memory"} <= set(health)
    assert health["model"]["size"] == "nano"
    assert "embedded" in health["model"]["note"]
    assert health["memory"]["rss_bytes"] > 1 << 20


def test_not_ready_until_the_model_is_loaded(clip: Path) -> None:
    with local_service(settings()) as url, httpx.Client(base_url=url) as http:
        deadline = time.monotonic() + 60
        seen = set()
        while 200 not in seen and time.monotonic() < deadline:
            response = http.get("/ready")
            seen.add(response.status_code)
            if response.status_code == 503:
                assert int(response.headers["retry-after"]) > 0
        assert seen <= {200, 503}
        assert 200 in seen


def test_a_model_that_cannot_be_had_is_told_and_never_replaced(tmp_path: Path) -> None:
    with local_service(settings(sam2_model_size="tiny", sam2_checkpoint=str(tmp_path / "missing.pt"))) as url, \
            SamClient(url) as client:
        with pytest.raises(ServiceProblem) as refused:
            client.wait_ready()
        assert refused.value.code == "model_unavailable"
        assert "missing.pt" in refused.value.detail
        health = client.call("GET", "/health")
        assert (health["ready"], health["model"]) == (False, None)


def test_models(client: SamClient) -> None:
    answer = client.call("GET", "/models")
    assert answer["current"] == "nano"
    assert [model["size"] for model in answer["models"]] == ["nano", "edgetam", "tiny", "small", "base_plus", "large"]


def test_the_key_guards_every_route_but_health_and_readiness(clip: Path) -> None:
    with local_service(settings(sam2_api_key="secret", sam2_video_dir=clip.parent)) as url:
        with SamClient(url, api_key="secret") as client:
            client.wait_ready()
            client.open_video_on_server(clip.name, max_frames=1).delete()
            paths = client.call("GET", "/openapi.json")["paths"]
            calls = [(method, re.sub(r"{\w+}", "1", path)) for path, methods in paths.items() for method in methods]
        assert len(calls) >= 14
        answers = {call: httpx.request(call[0], url + call[1]).status_code for call in calls}
        open_calls = {call[1] for call, status in answers.items() if status != 401}
        # the metrics where the service listens on loopback
        assert open_calls == {"/health", "/ready", "/v2/health/live", "/v2/health/ready", "/metrics"}
        for headers in ({"X-API-Key": "wrong"}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic secret"}):
            answer = httpx.get(f"{url}/sessions", headers=headers)
            assert answer.status_code == 401
            assert answer.json()["code"] == "unauthorized"
            assert "www-authenticate" in answer.headers
        assert httpx.get(f"{url}/sessions", headers={"X-API-Key": "secret"}).status_code == 200


def test_openapi_describes_every_field_and_shows_an_example(client: SamClient) -> None:
    document = client.call("GET", "/openapi.json")
    assert {"/initialize", "/add-object", "/refine", "/propagate", "/sessions/{session_id}"} <= set(document["paths"])
    schemas = document["components"]["schemas"]
    missing = []
    for name, schema in schemas.items():
        if name in ("HTTPValidationError", "ValidationError"):
            continue
        for field, spec in schema["properties"].items():
            nested = "$ref" in json.dumps(spec)
            if "description" not in spec and "allOf" not in spec or not (nested or "examples" in spec):
                missing.append(f"{name}.{field}")
    for path, methods in document["paths"].items():
        for method, call in methods.items():
            missing += [f"{method} {path} {item['name']}" for item in call.get("parameters", []) if "description" not in item]
            missing += [f"{method} {path}"] if not call.get("description") else []
    assert missing == []
    assert client.http.get("/docs").status_code == 200
    assert client.http.get("/").headers["content-type"].startswith("text/html")


def test_a_full_queue_refuses_at_once_and_loses_nothing(clip: Path) -> None:
    with local_service(settings(max_queued_steps=1)) as url, SamClient(url) as client:
        client.wait_ready()
        with client.open_video(clip, max_frames=6) as video:
            body = {"session_id": video.session_id, "points": [list(CLICK)], "mask_format": "none"}
            others = [client.open_video(clip, max_frames=2) for _ in range(6)]
            with ThreadPoolExecutor(6) as pool:
                posted = [pool.submit(client.http.post, "/add-object", json=body | {"session_id": other.session_id})
                          for other in others for _ in range(3)]
                answers = [future.result() for future in posted]
            assert {answer.status_code for answer in answers} <= {200, 503}
            refused = [answer for answer in answers if answer.status_code == 503]
            assert all(answer.json()["code"] == "queue_full" and int(answer.headers["retry-after"]) > 0 for answer in refused)
            known = sum(len(other.state()["objects"]) for other in others)
            assert known == len(answers) - len(refused)
            video.add_object(points=[list(CLICK)])
            assert len(list(video.propagate())) == 6


def test_a_network_that_answers_nonsense_is_told_as_such(clip: Path, colour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = ColourNetwork.track

    def track(network: ColourNetwork, step: Step, selections: Sequence[Selection]) -> list[Tracked]:
        """No numbers on frame 5."""
        found = right(network, step, selections)
        return found if step.frame.index != 5 else [
            Tracked(replace(one.memory, logits=one.memory.logits * torch.nan)) for one in found]

    monkeypatch.setattr(ColourNetwork, "track", track)
    with local_service(settings(sam2_model_size=colour)) as url, SamClient(url) as client:
        client.wait_ready()
        with client.open_video(clip, max_frames=10) as video:
            video.add_object(points=[list(CLICK)])
            body = {"session_id": video.session_id, "mask_format": "none"}
            streamed = client.http.post("/propagate", json=body, headers={"Accept": "application/x-ndjson"})
            last = json.loads(streamed.text.splitlines()[-1])
            assert (last["event"], last["code"], last["frame_idx"], last["done"]) == ("error", "invalid_mask", 5, 5)
            assert video.state()["frames_with_masks"] == [0, 1, 2, 3, 4]
            whole = client.http.post("/propagate", json=body)
            assert (whole.status_code, whole.json()["code"]) == (500, "invalid_mask")
            assert video.add_object(points=[[400, 100]]).object_id == 2
