"""`sam-service doctor`: what this machine offers the service with these settings, and what is wrong. Changes nothing."""

from __future__ import annotations

import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from sam_service import __version__
from sam_service.commands.exits import Exit
from sam_service.commands.words import counted, is_or_are
from sam_service.defaults import url_of
from sam_service.errors import ServiceError
from sam_service.settings import Settings

LIBRARIES = ("torch", "transformers", "opencv-python-headless", "av", "numpy", "fastapi", "httpx", "pydantic")
LOW_DISK_BYTES = 2 << 30


class Trouble(Exception):
    """Something that keeps the service from working."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked. detail: what was found, or what is wrong."""

    name: str
    ok: bool
    detail: str


def run_doctor(settings: Settings, *, as_json: bool = False) -> Exit:
    """Print a line for each check as it is made, or one JSON document; the exit code says whether all is well."""
    checks = []
    for check in _checks(settings):
        checks.append(check)
        if not as_json:
            print(f"{'ok   ' if check.ok else 'WRONG'}  {check.name:9} {check.detail}", flush=True)
    wrong = sum(not check.ok for check in checks)
    if as_json:
        print(json.dumps({"ok": not wrong, "checks": [asdict(check) for check in checks]}, indent=1))
    else:
        print(f"{wrong} of {counted(len(checks), 'check')} failed" if wrong else "all is well")
    return Exit.NOT_READY if wrong else Exit.OK


def _checks(settings: Settings) -> Iterator[Check]:
    """Every check, the quick ones first. Each imports what it needs, so that the first line is there at once."""
    checks: dict[str, Callable[[Settings], str]] = {
        "versions": _versions, "machine": _machine, "device": _device, "model": _model, "video": _video, "data": _data,
        "videos": _videos, "port": _port,
    }
    for name, check in checks.items():
        try:
            yield Check(name, True, check(settings))
        except (Trouble, ServiceError, OSError) as error:
            yield Check(name, False, str(error))


def _versions(settings: Settings) -> str:
    return f"sam-service {__version__}, Python {platform.python_version()}, " + ", ".join(
        f"{name} {version(name)}" for name in LIBRARIES)


def _machine(settings: Settings) -> str:
    import psutil

    from sam_service.core.threads import cpu_quota, usable_cpus
    memory, quota = psutil.virtual_memory(), cpu_quota()
    return (f"{platform.system()} {platform.machine()}, {counted(os.cpu_count() or 1, 'CPU')}"
            + (f", a quota of {quota:g}" if quota is not None else "")
            + f", {is_or_are(settings.knobs().thread_count(usable_cpus()), 'thread')} used; "
              f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB memory free")


def _device(settings: Settings) -> str:
    from sam_service.core.device import choose_device
    knobs = settings.knobs()
    policy = choose_device(knobs.device, force_cpu=settings.sam2_demo_force_cpu_device, precision=knobs.precision)
    return f"{policy.device.type} ({policy.reason})"


def _model(settings: Settings) -> str:
    """Load the model in a service of its own, unless its weights would have to be fetched first."""
    from sam_service.client import SamClient, SamError
    from sam_service.core.models.catalogue import asked_revisions, available_models
    from sam_service.local import local_service
    size, why = _size(settings)
    asked = asked_revisions(size, settings.sam2_checkpoint, settings.sam2_revision)
    listed = {model.size: model for model in available_models(revisions=asked)}[size]
    if settings.sam2_checkpoint is None and not listed.present:
        if settings.hf_hub_offline:
            raise Trouble(f"{size}: its weights are not on this machine, and HF_HUB_OFFLINE is set")
        return (f"{why}{size}: its weights are not on this machine; the first start fetches them from {listed.source} at "
                f"{listed.revision}, `sam-service models pull {size}` now")
    try:
        with local_service(settings) as url, SamClient(url, api_key="") as client:
            model = client.wait_ready()["model"]
    except (SamError, RuntimeError) as error:
        raise Trouble(str(error)) from error
    return (f"{why}{model['size']} ({model['source']}) loads, {model['parameters'] / 1e6:.1f} M parameters at "
            f"{model['image_size']} px")


def _size(settings: Settings) -> tuple[str, str]:
    """The model size, and why it is that one where the machine chooses."""
    from sam_service.core.device import choose_device
    from sam_service.core.models.catalogue import available_models
    from sam_service.core.models.choice import choose
    from sam_service.core.models.registry import AUTO
    from sam_service.core.threads import usable_cpus
    if settings.sam2_model_size != AUTO:
        return settings.sam2_model_size, ""
    policy = choose_device(settings.sam2_device, force_cpu=settings.sam2_demo_force_cpu_device)
    choice = choose(policy.device.type, settings.torch_num_threads or usable_cpus(),
                    {model.size for model in available_models() if model.present}, offline=settings.hf_hub_offline)
    return choice.size, f"{choice.reason}; "


def _video(settings: Settings) -> str:
    from sam_service.demo_clip import FRAMES, render_clip
    from sam_service.video.job import Job
    from sam_service.video.launch import decoder_version
    from sam_service.video.limits import VideoLimits
    from sam_service.video.process import DecodingProcess
    with tempfile.TemporaryDirectory(prefix="sam-doctor-") as folder:
        clip = render_clip(Path(folder).resolve() / "clip.mp4")
        with DecodingProcess(clip, VideoLimits()) as process:
            info = process.open()
            count = sum(1 for _ in process.frames(Job(0, 1, None, info.width, info.height, 85)))
    if count != FRAMES:
        raise Trouble(f"the decoding process read {count} of the {FRAMES} frames of a clip")
    guards = ", ".join(process.guards)
    return f"a process of its own decodes a clip with PyAV {decoder_version()}, with limits on {guards}"


def _data(settings: Settings) -> str:
    folder = settings.sam2_data_dir.resolve()
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    if not os.access(existing, os.W_OK):
        raise Trouble(f"{folder} cannot be written (SAM2_DATA_DIR)")
    free = shutil.disk_usage(existing).free
    if free < LOW_DISK_BYTES:
        raise Trouble(f"{folder}: {free / 2**30:.1f} GiB are free; frames and masks need room (SAM2_DATA_DIR)")
    return f"{folder}, {free / 2**30:.0f} GiB free"


def _videos(settings: Settings) -> str:
    folder = settings.sam2_video_dir
    if folder is None:
        return "SAM2_VIDEO_DIR is not set: videos come by upload only"
    if not folder.is_dir():
        raise Trouble(f"{folder} is not a folder (SAM2_VIDEO_DIR)")
    return f"{folder.resolve()}, {counted(sum(1 for path in folder.rglob('*') if path.is_file()), 'file')}"


def _port(settings: Settings) -> str:
    from sam_service.client import ApiError, SamClient, Unreachable
    url = url_of(settings.host, settings.port)
    try:
        with SamClient(url, api_key="", timeout_s=5.0) as client:
            health = client.health()
    except Unreachable:
        return f"nothing answers at {url}"
    except ApiError:
        raise Trouble(f"something else than this service answers at {url} (PORT)") from None
    state = "ready" if health["ready"] else health["error"] or "loading"
    return f"a service {health['version']} answers at {url}: {state}"
