"""The policy for devices, with the conditions of each machine made up."""

from __future__ import annotations

import logging
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from sam_service.core import device
from sam_service.core.device import choose_device, is_forked
from sam_service.core.engine import Engine, EngineOptions
from sam_service.core.environment import FALLBACK, HIGH, LOW, prepare_metal
from sam_service.errors import ModelUnavailable

Machine = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Makes this process believe that it is on another machine."""
    def make(*, cuda: bool = False, metal: bool = False, built: bool = True, mac: bool = False, forked: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA T4")
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: metal)
        monkeypatch.setattr(torch.backends.mps, "is_built", lambda: built)
        monkeypatch.setattr(device, "on_mac", lambda: mac)
        monkeypatch.setattr(device, "is_forked", lambda: forked)
    return make


@pytest.mark.parametrize(("conditions", "chosen", "autocast", "reason"), [
    ({"cuda": True}, "cuda", torch.float16, "NVIDIA T4"),
    ({"cuda": True, "forked": True}, "cuda", torch.float16, "NVIDIA T4"),
    ({"metal": True, "mac": True}, "mps", torch.float16, "Apple Metal"),
    ({"metal": True, "mac": True, "forked": True}, "cpu", None, "forked process on macOS"),
    ({"mac": True}, "cpu", None, "macOS is too old"),
    ({"mac": True, "built": False}, "cpu", None, "built without Metal"),
    ({}, "cpu", None, "no CUDA device"),
])
def test_auto_takes_the_best_device_and_says_why(machine: Machine, conditions: dict[str, bool], chosen: str,
                                                 autocast: torch.dtype | None, reason: str) -> None:
    machine(**conditions)
    policy = choose_device("auto")
    assert (policy.device.type, policy.autocast) == (chosen, autocast)
    assert reason in policy.reason


@pytest.mark.parametrize("conditions", [{"cuda": True}, {"metal": True, "mac": True}, {}])
def test_the_cpu_can_be_forced_everywhere(machine: Machine, conditions: dict[str, bool]) -> None:
    machine(**conditions)
    policy = choose_device("auto", force_cpu=True)
    assert (policy.device.type, policy.autocast, policy.reason) == ("cpu", None, "SAM2_DEMO_FORCE_CPU_DEVICE")


@pytest.mark.parametrize(("conditions", "why"), [
    ({}, "container on a Mac"), ({"mac": True, "built": False}, "arm64 build"), ({"mac": True}, "too old"),
    ({"mac": True, "metal": True, "forked": True}, "forked")])
def test_metal_that_is_asked_for_and_not_there_is_an_error(machine: Machine, conditions: dict[str, bool], why: str) -> None:
    machine(**conditions)
    with pytest.raises(ModelUnavailable, match=why):
        choose_device("mps")


def test_a_forked_process_on_a_mac_says_so_in_the_log(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    machine(metal=True, mac=True, forked=True)
    with caplog.at_level(logging.WARNING):
        choose_device("auto")
    assert "gunicorn" in caplog.text and "the CPU is used" in caplog.text


def test_gunicorn_is_known_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_forked()
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/gunicorn", "app:app"])
    assert is_forked()


FORKS = """
import multiprocessing, os, sys
from sam_service.core.device import is_forked

assert not is_forked()
pid = os.fork()
if not pid:
    os._exit(10 + is_forked())
process = multiprocessing.get_context("fork").Process(target=lambda: sys.exit(10 + is_forked()))
process.start()
process.join()
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), process.exitcode)
"""


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_forks_of_every_kind_are_noticed() -> None:
    assert in_a_process(FORKS) == "11 11"


def in_a_process(script: str) -> str:
    """What a fresh Python prints."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True,
                          timeout=240, env=environment).stdout.strip()


def test_variables_of_metal_are_set_on_a_mac_only() -> None:
    linux: dict[str, str] = {}
    prepare_metal("linux", linux)
    assert linux == {}
    mac: dict[str, str] = {}
    prepare_metal("darwin", mac)
    assert mac == {FALLBACK: "1", HIGH: "1.0", LOW: "0.8"}


@pytest.mark.parametrize(("given", "low"), [
    ({HIGH: "0.7"}, "0.56"),  # with torch's own low mark of 1.4 it would refuse to start
    ({HIGH: "0.7", LOW: "0.5"}, "0.5"), ({HIGH: "0.0"}, None), ({HIGH: "much"}, None)])
def test_the_low_mark_of_metals_memory_follows_the_high_one(given: dict[str, str], low: str | None) -> None:
    environment = {FALLBACK: "0"} | given
    prepare_metal("darwin", environment)
    assert environment.get(LOW) == low
    assert environment[FALLBACK] == "0" and environment[HIGH] == given[HIGH]


def test_variables_are_set_before_torch_is_imported() -> None:
    script = ("import os, sys; from sam_service import cli; from sam_service.core import environment\n"
              "environment.prepare_metal.__defaults__ = ('darwin', os.environ)\n"
              "cli._settings(cli._parser().parse_args(['doctor']))\n"
              "print('torch' in sys.modules, os.environ['PYTORCH_ENABLE_MPS_FALLBACK'])")
    assert in_a_process(script) == "False 1"


def test_a_deleted_session_gives_the_devices_memory_back(monkeypatch: pytest.MonkeyPatch) -> None:
    released: list[str] = []
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: released.append("mps"))
    engine = Engine(EngineOptions())
    engine.policy = device.DevicePolicy(torch.device("mps"), torch.float16, "Apple Metal")
    engine.worker.start()
    engine.forget("session")
    engine.worker.stop(60)
    assert released == ["mps"]


def test_the_host_waits_for_the_device_before_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[str] = []
    monkeypatch.setattr(torch.mps, "synchronize", lambda: waited.append("mps"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: waited.append("cuda"))
    for kind in ("mps", "cuda", "cpu"):
        device.wait_for(torch.device(kind))
    assert waited == ["mps", "cuda"]
