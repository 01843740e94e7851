"""What `image_check.py` does with a built image: each compose file, over REST, and then killed, stopped and upgraded."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
from sam_service.client import SamClient, VideoSession
from sam_service.core.models import registry
from sam_service.demo_clip import CLICK, render_clip

PORT, URL = 18002, "http://127.0.0.1:18002"
PROJECT = "sam-image-check"
GRACE_S = 60  # `stop_grace_period` of docker-compose.yml
READY_S = 600.0  # also on a machine that is busy with other work
FRAMES = 6
BASE, CPU, GPU = "docker-compose.yml", "docker-compose.cpu.yml", "docker-compose.gpu.yml"


class Flow:
    """The checks, in order. root: the repository. work: a folder that may be written."""

    def __init__(self, root: Path, work: Path) -> None:
        self._root, self._work = root, work
        self.count, self.failed = 0, list[str]()

    def note(self, what: str, holds: bool) -> None:
        """Print whether something holds."""
        self.count += 1
        if not holds:
            self.failed.append(what)
        print(f"{'ok   ' if holds else 'WRONG'}  {what}", flush=True)

    def run(self, upgrade_from: str | None) -> None:
        """Everything, with volumes and a folder of videos of its own."""
        with tempfile.TemporaryDirectory(dir=self._work) as folder:
            videos = Path(folder) / "videos"
            videos.mkdir(mode=0o755)
            Path(folder).chmod(0o755)
            clip = render_clip(videos / "clip.mp4")
            options = {"SAM2_VIDEO_DIR": str(videos), "PORT": str(PORT), "CPU_LIMIT": "1", "SAM2_MODEL_SIZE": "nano"}
            try:
                for files in ((BASE,), (BASE, CPU)):
                    self._serve(files, options, clip)
                self._empty(options, clip)
                self._gpu(options)
                self._weights(options, Path(folder), clip)
                self._upgrade(options, Path(folder), upgrade_from)
            finally:
                self._compose((BASE,), options, "down", "-v", "--remove-orphans", check=False)

    def _compose(self, files: tuple[str, ...], options: dict[str, str], *arguments: str, check: bool = True) -> str:
        named = [part for file in files for part in ("-f", str(self._root / file))]
        done = subprocess.run(["docker-compose", "-p", PROJECT, *named, *arguments], env=os.environ | options, cwd=self._work,
                              capture_output=True, text=True, check=False)
        if check and done.returncode:
            print(done.stdout[-2000:] + done.stderr[-2000:], file=sys.stderr)
            raise SystemExit(f"docker-compose {' '.join(arguments)} failed with {' and '.join(files)}")
        return done.stdout + done.stderr

    @contextlib.contextmanager
    def _up(self, files: tuple[str, ...], options: dict[str, str], *, keep: bool = False) -> Iterator[tuple[SamClient, str]]:
        """The service, ready, and its container; what it logged is shown where a check inside raises."""
        self._compose(files, options, "up", "-d", "--no-build")
        container = docker("ps", "-q", "-f", f"label=com.docker.compose.project={PROJECT}")
        try:
            with SamClient(URL) as client:
                require_ready()
                yield client, container
        except BaseException:
            print(self._compose(files, options, "logs", "--tail", "60", check=False), file=sys.stderr)
            raise
        finally:
            if not keep:
                self._compose(files, options, "down", "-v")

    def _serve(self, files: tuple[str, ...], options: dict[str, str], clip: Path) -> None:
        """REST, page, lock-down, threads, kill, stop and start with some compose files."""
        name = " + ".join(files)
        with self._up(files, options) as (client, container):
            health = client.health()
            self.note(f"{name}: threads follow the quota of 1 CPU", health["threads"] == 1)
            self.note(f"{name}: runs on the CPU", health["device"] == "cpu")
            self._locked_down(name, container)
            video = client.initialize(clip, max_frames=FRAMES)
            area = video.add_object(points=[CLICK]).area
            frames = list(video.propagate())
            archive = self._work / "coco.zip"
            video.export("coco", archive)
            self.note(f"{name}: upload, click, propagation and export answer", area > 0 and len(frames) == FRAMES
                      and archive.stat().st_size > 0)
            client.initialize_on_server("clip.mp4", max_frames=2).delete()
            self.note(f"{name}: opens a video of the mounted folder", True)
            self.note(f"{name}: the page is there", "<html" in httpx.get(URL + "/", timeout=30).text.lower())
            if files == (BASE,):
                self.note(f"{name}: the health check succeeds",
                          wait(lambda: state(container)["Health"]["Status"] == "healthy", 120))
            before = client.call("GET", f"/sessions/{video.session_id}/masks/{FRAMES - 1}")
            docker("kill", "-s", "KILL", container)
            self._compose(files, options, "up", "-d", "--no-build")
            require_ready()
            after = client.call("GET", f"/sessions/{video.session_id}/masks/{FRAMES - 1}")
            self.note(f"{name}: after a kill the session has the same masks", before == after)
            corrected = client.session(video.session_id)
            self.note(f"{name}: and takes a correction", corrected.refine(1, points=[CLICK]).area > 0)
            started = time.monotonic()
            self._compose(files, options, "stop")
            took, ended = time.monotonic() - started, state(container)
            self.note(f"{name}: stops in {took:.0f} s with code {ended['ExitCode']}",
                      took < GRACE_S and ended["ExitCode"] in (0, 143) and not ended["OOMKilled"])

    def _locked_down(self, name: str, container: str) -> None:
        lines = docker("exec", container, "cat", "/proc/1/status").splitlines()
        status = dict(line.split(":\t") for line in lines if ":\t" in line)
        self.note(f"{name}: not root, no capabilities, no new privileges", docker("exec", container, "id", "-u") == "1000"
                  and int(status["CapEff"], 16) == 0 and int(status["CapBnd"], 16) == 0 and status["NoNewPrivs"] == "1")
        refused = [subprocess.run(["docker", "exec", container, "touch", f"{folder}/x"], capture_output=True,
                                  check=False).returncode for folder in ("/opt/venv", "/usr", "/videos", "/home")]
        self.note(f"{name}: the root and the videos are read-only", all(refused))
        installed = docker("exec", container, "sh", "-c", "ls /opt/venv/lib/python3*/site-packages")
        self.note(f"{name}: no CUDA in the image", "nvidia" not in installed and "triton" not in installed)

    def _empty(self, options: dict[str, str], clip: Path) -> None:
        """A first start that asks for SAM 2.1 where no hub is reached, or where its weights take long."""
        more = {"SAM2_MODEL_SIZE": "tiny"}
        with self._up((BASE,), options | more) as (client, _), client.open_video(clip, max_frames=1) as video:
            health = client.health()
            self.note("first start: the embedded model answers and says which model it stands in for",
                      health["model"]["size"] == "nano" and health["fetching"]["size"] == "tiny"
                      and video.add_object(points=[CLICK]).area > 0)

    def _gpu(self, options: dict[str, str]) -> None:
        """The GPU file is read by Compose; without NVIDIA's runtime there is nothing to start."""
        read = self._compose((BASE, GPU), options, "config", check=False)
        self.note(f"{BASE} + {GPU}: Compose reads them", "nvidia" in read and "SAM2_DEVICE: cuda" in read)
        if "nvidia" not in docker("info", "-f", "{{json .Runtimes}}"):
            print(f"       {BASE} + {GPU}: not started, this engine has no NVIDIA runtime")

    def _weights(self, options: dict[str, str], folder: Path, clip: Path) -> None:
        """Each family that is not embedded, from its named volume and without a network; seeded weights in the real layout."""
        for size in ("tiny", "edgetam"):
            made = folder / f"hub-{size}"
            subprocess.run([sys.executable, "-m", "deploy.image_weights", size, str(made)], check=True, cwd=self._root)
            self._fill("models", made)
            more = {"SAM2_MODEL_SIZE": size, "HF_HUB_OFFLINE": "true"}
            with self._up((BASE,), options | more) as (client, _), \
                    client.open_video(clip, max_frames=2, image_size=256) as video:
                found = client.health()["model"]
                mask = video.add_object(points=[CLICK])
                self.note(f"{size}: loads offline from the volume ({found['source']}) and answers", found["size"] == size
                          and found["parameters"] / 1e6 > registry.SIZES[size].parameters_m * 0.8 and 0 <= mask.score <= 1)

    def _upgrade(self, options: dict[str, str], folder: Path, revision: str | None) -> None:
        """A data volume that an older version filled is taken over."""
        old, data = folder / "old", folder / "data"
        try:
            revision = revision or git(self._root, "log", "-n", "1", "--skip", "1", "--format=%h", "--",
                                       "sam-service/sam_service/sessions/store.py")
            git(self._root, "worktree", "add", "--detach", str(old), revision)
        except (OSError, subprocess.CalledProcessError):
            print("       upgrade: not tried, this is no checkout with a history")
            return
        try:
            session_id, before = fill_with_old(old, data, folder / "videos" / "clip.mp4")
        finally:
            git(self._root, "worktree", "remove", "--force", str(old))
        self._fill("data", data)
        with self._up((BASE,), options) as (client, _):
            after = client.call("GET", f"/sessions/{session_id}/masks/1")
            self.note(f"upgrade: a data volume of {revision} has its sessions and masks", [
                (one["object_id"], one["mask"]) for one in after["objects"]] == [
                (one["object_id"], one["mask"]) for one in before["objects"]])
            self.note("upgrade: and its session goes on", len(list(client.session(session_id).propagate())) == FRAMES)

    def _fill(self, volume: str, folder: Path) -> None:
        """Put a folder into a named volume, for uid 1000."""
        docker("run", "--rm", "--user", "0", "--entrypoint", "sh", "-v", f"{PROJECT}_{volume}:/volume", "-v",
               f"{folder}:/from:ro", "sam-service:local", "-c", "cp -r /from/. /volume/ && chown -R 1000:1000 /volume")


def fill_with_old(old: Path, data: Path, clip: Path) -> tuple[str, dict[str, Any]]:
    """Let an older version, run without a container, track a clip; the session's name and its masks on frame 1."""
    environment = os.environ | {"PYTHONPATH": str(old / "sam-service"), "PORT": str(PORT + 1), "SAM2_MODEL_SIZE": "nano"}
    service = subprocess.Popen([sys.executable, "-m", "sam_service", "serve", "--data-dir", str(data)], env=environment,
                               stderr=subprocess.DEVNULL)
    try:
        require_ready(url := f"http://127.0.0.1:{PORT + 1}")
        with SamClient(url) as client:
            video: VideoSession = client.initialize(clip, max_frames=FRAMES)
            video.add_object(points=[CLICK])
            list(video.propagate())
            return video.session_id, client.call("GET", f"/sessions/{video.session_id}/masks/1")
    finally:
        service.terminate()
        service.wait(60)


def require_ready(url: str = URL) -> None:
    """Wait until a service is ready. The engine's proxy takes connections before anything listens behind it."""
    def is_ready() -> bool:
        try:
            return httpx.get(f"{url}/ready", timeout=60).status_code == 200
        except httpx.TransportError:
            return False
    if not wait(is_ready, READY_S):
        raise SystemExit(f"the service was not ready within {READY_S:.0f} s")


def docker(*arguments: str) -> str:
    """Run the client; its output without the last line's end."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"docker {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def state(container: str) -> dict[str, Any]:
    """What the engine says of a container."""
    found: dict[str, Any] = json.loads(docker("inspect", "-f", "{{json .State}}", container))
    return found


def git(root: Path, *arguments: str) -> str:
    """Run git in the repository; its output."""
    if shutil.which("git") is None:
        raise FileNotFoundError("git")
    return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True).stdout.strip()


def wait(holds: Callable[[], bool], limit_s: float) -> bool:
    """Wait until something holds; whether it does."""
    deadline = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(1)
    return True
