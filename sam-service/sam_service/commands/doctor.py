"""`sam-service doctor`: what this machine offers the service with these settings, and what is wrong. Changes nothing."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import cv2
import psutil

from sam_service import __version__
from sam_service.client import ApiError, SamClient, SamError, Unreachable
from sam_service.commands.exits import Exit
from sam_service.core.device import choose_device
from sam_service.core.models.catalogue import asked_revisions, available_models
from sam_service.core.threads import cpu_quota, usable_cpus
from sam_service.demo_clip import FRAMES, render_clip
from sam_service.errors import ServiceError
from sam_service.local import local_service
from sam_service.settings import Settings
from sam_service.video.decoder import prepare_decoder

LIBRARIES = ("torch", "transformers", "opencv-python-headless", "numpy", "fastapi", "httpx", "pydantic")
LOW_DISK_BYTES = 2 << 30


class Trouble(Exception):
    """Something that keeps the service from working."""


def run_doctor(settings: Settings) -> Exit:
    """Print a line for each thing that was looked at; the exit code tells whether all is well."""
    checks: dict[str, Callable[[Settings], str]] = {
        "versions": _versions, "machine": _machine, "device": _device, "model": _model, "video": _video, "data": _data,
        "videos": _videos, "port": _port,
    }
    wrong = 0
    for name, check in checks.items():
        try:
            print(f"ok     {name:9} {check(settings)}", flush=True)
        except (Trouble, ServiceError, SamError, OSError) as error:
            wrong += 1
            print(f"WRONG  {name:9} {error}", flush=True)
    print(f"{wrong} of {len(checks)} checks failed" if wrong else "all is well")
    return Exit.NOT_READY if wrong else Exit.OK


def _versions(settings: Settings) -> str:
    return f"sam-service {__version__}, Python {platform.python_version()}, " + ", ".join(
        f"{name} {version(name)}" for name in LIBRARIES)


def _machine(settings: Settings) -> str:
    memory, quota = psutil.virtual_memory(), cpu_quota()
    return (f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
            + (f", a quota of {quota:g}" if quota is not None else "")
            + f", {settings.torch_num_threads or usable_cpus()} threads are used; "
              f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB memory free")


def _device(settings: Settings) -> str:
    policy = choose_device(settings.sam2_device, force_cpu=settings.sam2_demo_force_cpu_device,
                           precision=settings.sam2_precision)
    return f"{policy.device.type} ({policy.reason})"


def _model(settings: Settings) -> str:
    """Load the model in a service of one's own, unless its weights would have to be fetched first."""
    size = settings.sam2_model_size
    asked = asked_revisions(size, settings.sam2_checkpoint, settings.sam2_revision)
    known = {model.size: model for model in available_models(revisions=asked)}[size]
    if settings.sam2_checkpoint is None and not known.present:
        if settings.hf_hub_offline:
            raise Trouble(f"{size}: its weights are not on this machine, and HF_HUB_OFFLINE is set")
        return (f"{size}: its weights are not on this machine; the first start fetches them from {known.source} at "
                f"{known.revision}, `sam-service models pull {size}` now")
    with local_service(settings) as url, SamClient(url, api_key="") as client:
        model = client.wait_ready()["model"]
    return (f"{model['size']} ({model['source']}) loads, {model['parameters'] / 1e6:.1f} M parameters at "
            f"{model['image_size']} px")


def _video(settings: Settings) -> str:
    prepare_decoder()
    with tempfile.TemporaryDirectory(prefix="sam-doctor-") as folder:
        capture = cv2.VideoCapture(str(render_clip(Path(folder) / "clip.mp4")))
        count = sum(1 for _ in iter(lambda: capture.read()[0], False))
        capture.release()
    if count != FRAMES:
        raise Trouble(f"OpenCV read {count} of the {FRAMES} frames of a clip that it had written")
    return "OpenCV writes and reads video"


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
    return f"{folder.resolve()}, {sum(1 for path in folder.rglob('*') if path.is_file())} files"


def _port(settings: Settings) -> str:
    url = f"http://{settings.host}:{settings.port}"
    try:
        with SamClient(url, api_key="", timeout_s=5.0) as client:
            health = client.health()
    except Unreachable:
        return f"nothing answers at {url}"
    except ApiError:
        raise Trouble(f"something else than this service answers at {url} (PORT)") from None
    state = "ready" if health["ready"] else health["error"] or "loading"
    return f"a service {health['version']} answers at {url}: {state}"
