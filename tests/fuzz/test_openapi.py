"""Calls made up from the service's own description, fitting it and not: each is answered, and never with a failure of the
service's own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation, BaseSchema

from tests.clips import write_video
from tests.reliability.servers import Server, server

FRAMES = 4
RETRYABLE = frozenset({429, 503})
CALL_TIMEOUT_S = 30.0


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("openapi")
    write_video(folder / "clip.mp4", FRAMES)
    with server(folder / "data", SAM2_VIDEO_DIR=str(folder), MAX_SESSIONS="20") as started:
        yield started


@pytest.fixture(scope="module")
def schema(service: Server) -> BaseSchema:
    return schemathesis.openapi.from_url(f"{service.url}/openapi.json")


@pytest.fixture(scope="module")
def session_id(service: Server) -> str:
    """A session with an object that was tracked, for calls that are to get past the first check."""
    with httpx.Client(base_url=service.url, timeout=60) as http:
        opened: str = http.post("/initialize", json={"video_path": "clip.mp4"}).json()["session_id"]
        http.post("/add-object", json={"session_id": opened, "points": [[30, 60]], "object_id": 1}).raise_for_status()
        http.post("/propagate", json={"session_id": opened}).raise_for_status()
    return opened


def aimed(case: Case[Any], session_id: str) -> None:
    """Let a made-up call name a session that exists, unless it would delete it."""
    if case.method != "DELETE" and "session_id" in case.path_parameters:
        case.path_parameters["session_id"] = session_id
    if isinstance(case.body, dict) and isinstance(case.body.get("session_id"), str):
        case.body["session_id"] = session_id


def check(case: Case[Any]) -> None:
    """Send a call; a failure of the service's own is none of the answers."""
    response = case.call(timeout=CALL_TIMEOUT_S)
    told = f"{case.as_curl_command()}\n{response.status_code}: {response.content[:500]!r}"
    if response.status_code in RETRYABLE:
        assert response.headers["retry-after"][0].isdigit(), told
    else:
        assert response.status_code < 500, told
    if response.status_code >= 400 and case.path.startswith("/v2") and response.headers["content-type"] == ["application/json"]:
        assert [*response.json()] in (["error"], ["ready"], ["name", "ready"]), told  # as the Open Inference Protocol has it
    elif response.status_code >= 400:
        assert response.headers["content-type"] == ["application/problem+json"], told


def fuzz(operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode, session_id: str, examples: int, *,
         derandomize: bool) -> None:
    """Make up `examples` calls of one operation."""
    @settings(max_examples=examples, deadline=None, database=None, derandomize=derandomize, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(mode), aim=st.booleans())
    def run(case: Case[Any], aim: bool) -> None:
        if aim:
            aimed(case, session_id)
        check(case)

    run()


def fuzz_all(schema: BaseSchema, service: Server, session_id: str, examples: int, *, derandomize: bool) -> None:
    """Make up calls of every operation that the service describes, then see that it is well."""
    tried = 0
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        for mode in GenerationMode:
            with contextlib.suppress(Unsatisfiable):  # an operation without parameters cannot be called wrongly
                fuzz(operation, mode, session_id, examples, derandomize=derandomize)
        tried += 1
    assert tried >= 18
    with httpx.Client(base_url=service.url, timeout=30) as http:
        assert http.get(f"/sessions/{session_id}").status_code == 200
        assert http.get("/health").json()["ready"]
    assert "Traceback" not in service.told(), service.told()


def test_every_call(schema: BaseSchema, service: Server, session_id: str) -> None:
    fuzz_all(schema, service, session_id, 10, derandomize=True)


@pytest.mark.slow
def test_every_call_at_length(schema: BaseSchema, service: Server, session_id: str) -> None:
    fuzz_all(schema, service, session_id, 400, derandomize=False)


def test_calls_that_follow_each_other(schema: BaseSchema, service: Server) -> None:
    chained: Any = schema.as_state_machine()

    class Chain(chained):  # type: ignore[misc]
        def call(self, case: Case[Any], **_: Any) -> Any:
            return case.call(timeout=CALL_TIMEOUT_S)

        def validate_response(self, response: Any, case: Case[Any], **_: Any) -> None:
            assert response.status_code < 500 or response.status_code in RETRYABLE, case.as_curl_command()

    Chain.run(settings=settings(max_examples=10, stateful_step_count=8, deadline=None, database=None, derandomize=True,
                                phases=[Phase.generate], suppress_health_check=list(HealthCheck)))
    assert "Traceback" not in service.told(), service.told()
