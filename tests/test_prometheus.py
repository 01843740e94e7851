"""Debian's Prometheus scrapes the running service, with the alert rules that come with it."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from sam_service.client import SamClient

ROOT = Path(__file__).parent.parent
LIMIT_S = 120
CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: sam-service
    static_configs: [{{targets: ["{target}"]}}]
"""


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs Prometheus")
def test_prometheus_scrapes_the_service(client: SamClient, service: str, tmp_path: Path, unused_port: int) -> None:
    config = tmp_path / "prometheus.yml"
    config.write_text(CONFIG.format(rules=ROOT / "deploy" / "alerts.yml", target=service.removeprefix("http://")))
    address = f"127.0.0.1:{unused_port}"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}",
                                    f"--web.listen-address={address}"], stdout=log, stderr=log)
    try:
        def ask(path: str, **query: str) -> Any:
            return httpx.get(f"http://{address}/api/v1/{path}", params=query, timeout=30).json()["data"]

        def value(query: str) -> list[str]:
            return [one["value"][1] for one in ask("query", query=query)["result"]]

        deadline = time.monotonic() + LIMIT_S
        found: list[str] = []
        while found != ["1"]:
            assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()[-2000:]
            try:
                found = value("sam_service_ready")
            except httpx.TransportError:
                time.sleep(0.2)
        [target] = ask("targets")["activeTargets"]
        assert (target["health"], target["lastError"]) == ("up", "")
        assert value('up{job="sam-service"}') == ["1"]
        assert len(value("sam_service_build_info")) == 1
        rules = [rule for group in ask("rules")["groups"] for rule in group["rules"]]
        assert len(rules) >= 4 and all(rule["lastError"] == "" for rule in rules if "lastError" in rule)
    finally:
        process.terminate()
        process.wait(60)
