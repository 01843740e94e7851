"""What operators see: metrics that a Prometheus parser reads, that do not grow with sessions, and log lines with ids."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sam_service import logs
from sam_service.client import SamClient
from sam_service.demo_clip import CLICK
from sam_service.local import local_service

from tests import colour_family
from tests.support import settings

DOCS = Path(__file__).parents[2] / "docs" / "operations.md"
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture(scope="module")
def url(video_dir: Path) -> Iterator[str]:
    with local_service(settings(sam2_model_size=colour_family.register(), sam2_video_dir=video_dir)) as url:
        yield url
    colour_family.forget()


def samples(client: SamClient) -> Samples:
    text = client.http.get("/metrics").text
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text) for sample in family.samples}


def run(client: SamClient, clip: Path) -> str:
    """The demo's flow, a refusal and a stream; returns the session's id."""
    with client.open_video(clip, max_frames=6) as video:
        video.add_object(points=[list(CLICK)])
        assert len(list(video.propagate())) == 6
        assert client.http.post("/propagate", json={"session_id": "none"}).status_code == 404
        return video.session_id


def test_every_documented_metric_is_there_and_every_metric_is_documented(url: str, clip: Path) -> None:
    documented = set(re.findall(r"^\| `(sam_service_\w+)", DOCS.read_text(), re.MULTILINE))
    with SamClient(url) as client:
        client.wait_ready()
        run(client, clip)
        families = {family.name for family in text_string_to_metric_families(client.http.get("/metrics").text)}
    ours = {name for name in families if name.startswith("sam_service_")}
    assert documented and ours == {name.removesuffix("_total") for name in documented}


def test_no_series_grows_with_sessions(url: str, clip: Path) -> None:
    with SamClient(url) as client:
        client.wait_ready()
        run(client, clip)
        before = samples(client)
        ids = [run(client, clip) for _ in range(3)]
        after = samples(client)
    assert after.keys() == before.keys()
    labels = {value for _, pairs in after for _, value in pairs}
    assert not labels & set(ids)
    assert after["sam_service_sessions_opened_total", ()] == before["sam_service_sessions_opened_total", ()] + 3
    tracked = ("sam_service_frames_total", (("kind", "tracked"),))
    assert after[tracked] == before[tracked] + 18
    refused = ("sam_service_rejected_total", (("code", "not_found"),))
    assert after[refused] == before[refused] + 3
    route = ("sam_service_http_requests_total", (("code", "200"), ("method", "POST"), ("route", "/add-object")))
    assert after[route] == before[route] + 3


def test_a_request_keeps_its_id_and_an_odd_one_is_replaced(url: str) -> None:
    with SamClient(url) as client:
        assert client.http.get("/health", headers={"X-Request-Id": "a-7"}).headers["x-request-id"] == "a-7"
        replaced = client.http.get("/health", headers={"X-Request-Id": "a b"}).headers["x-request-id"]
        assert re.fullmatch("[0-9a-f]{16}", replaced)
        assert client.http.get("/no-such-path").headers["x-request-id"]


def test_metrics_want_the_key_unless_only_this_machine_can_ask() -> None:
    colour = colour_family.register()
    for host, status in (("127.0.0.1", 200), ("0.0.0.0", 401)):  # the socket is on loopback either way
        with local_service(settings(sam2_model_size=colour, sam2_api_key="secret", host=host)) as url, \
                SamClient(url, api_key="") as client:
            assert client.http.get("/metrics").status_code == status
            assert client.http.get("/models").status_code == 401


def test_what_a_client_says_begins_no_line_of_the_log() -> None:
    said = "GET /a\n2026-11-25 ERROR forged \x1b[2J\u202e\r\x00 failed"
    record = logging.LogRecord("a", logging.ERROR, __file__, 1, "%s", (said,), None)
    assert logs.ConsoleFormatter("%(levelname)s %(message)s").format(record) == (
        "ERROR GET /a\n    2026-11-25 ERROR forged \\x1b[2J\\u202e\\r\\x00 failed")
    assert "\n" not in logs.JsonFormatter().format(record)


def test_json_lines_carry_the_ids_and_the_traceback() -> None:
    record = logging.LogRecord("a", logging.ERROR, __file__, 1, "failed: %s", ("x",), None)
    tokens = [logs.request_id.set("r1"), logs.session_id.set("s1")]
    try:
        line = json.loads(logs.JsonFormatter().format(record))
        assert (line["message"], line["level"], line["request_id"], line["session_id"]) == ("failed: x", "error", "r1", "s1")
        assert "trace_id" not in line and "traceback" not in line
        assert "request_id=r1" in logs.ConsoleFormatter("%(message)s").format(record)
    finally:
        for token in tokens:
            token.var.reset(token)
    try:
        raise ValueError("odd")
    except ValueError as error:
        failed = logging.LogRecord("a", logging.ERROR, __file__, 1, "failed", (), (type(error), error, None))
    line = json.loads(logs.JsonFormatter().format(failed))
    assert line["error"] == "ValueError" and "odd" in line["traceback"] and "request_id" not in line


def test_alerts_and_dashboard_name_metrics_that_there_are() -> None:
    documented = set(re.findall(r"^\| `(sam_service_\w+)", DOCS.read_text(), re.MULTILINE))
    for name in ("alerts.yml", "grafana.json"):
        text = (DOCS.parents[1] / "deploy" / name).read_text()
        named = {re.sub("_(bucket|sum|count)$", "", found) for found in re.findall(r"sam_service_\w+", text)}
        assert named and named <= documented
