"""Build the image, run it with Docker Compose as a user would, and check what the documents promise of it.

    make image-check                      as root on Debian 12; needs about 6 GB of disk and a quarter of an hour
    make image-check ARGS='--work DIR'    keeps the engine's data, base and wheels there, for a quicker second run

Where no Docker engine answers, one is started for the run and ended after it; its programs come from Debian where they are
missing. Where the base image is not there it is made with debootstrap from the machine's own apt sources, and packages come
from wheels that pip fetches by its own configuration and that are served on loopback.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Iterator, Sequence
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from deploy.image_flow import Flow

ROOT = Path(__file__).parent.parent
CONTEXT = ROOT / "sam-service"
BASE, IMAGE = "python:3.11-slim", "sam-service:local"
PROGRAMS = {"dockerd": "docker.io", "docker-compose": "docker-compose", "debootstrap": "debootstrap"}
MOST_BYTES = 1_200_000_000
DEBIAN = "bookworm"  # its Python is 3.11
PACKAGES = ("python3.11", "python3.11-venv", "python3-pip", "ca-certificates", "passwd")
NEEDLESS = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt", "var/lib/apt/lists")
ENGINE_START_S = 60


def main() -> int:
    """Run everything; the exit code is 0 if all of it holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="folder for the engine's data, the base and the wheels (default: a new one)")
    parser.add_argument("--upgrade-from", metavar="REVISION", default=None,
                        help="the version whose data volume is taken over (default: the one before the store last changed)")
    parser.add_argument("--build-only", action="store_true", help="build the image and check its layers and size")
    options = parser.parse_args()
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="image-check-")))
        work.mkdir(parents=True, exist_ok=True)
        stack.enter_context(engine(work))
        flow = Flow(ROOT, work)
        make_base(work)
        build(work)
        flow.note(f"image of {size_of(IMAGE) / 1e6:.0f} MB, its base {size_of(BASE) / 1e6:.0f} MB", size_of(IMAGE) < MOST_BYTES)
        flow.note("a change of the source makes one layer anew", packages_stay(work))
        if not options.build_only:
            flow.run(options.upgrade_from)
    print(f"{len(flow.failed)} of {flow.count} checks failed, {time.monotonic() - started:.0f} s")
    return 1 if flow.failed else 0


def run(*arguments: str | Path, quiet: bool = False, **more: Any) -> str:
    """Run a program; its output. Raises CalledProcessError with the output's end shown."""
    command = [str(argument) for argument in arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, **more)
    if done.returncode and not quiet:
        print(f"{' '.join(command)}\n{done.stdout[-3000:]}{done.stderr[-3000:]}", file=sys.stderr)
    done.check_returncode()
    return str(done.stdout)


@contextlib.contextmanager
def engine(work: Path) -> Iterator[None]:
    """A Docker engine that answers: the one that there is, or one of this run's own."""
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if missing:
        print(f"installing {', '.join(missing)}")
        run("apt-get", "update", "-qq")
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing,
            env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})
    with contextlib.suppress(subprocess.CalledProcessError):
        run("docker", "info", quiet=True)
        yield
        return
    socket = work.resolve() / "docker.sock"
    os.environ["DOCKER_HOST"] = f"unix://{socket}"
    with (work / "dockerd.log").open("w") as log:
        daemon = subprocess.Popen(["dockerd", "--data-root", work.resolve() / "docker", "--exec-root", work.resolve() / "exec",
                                   "--pidfile", work.resolve() / "docker.pid", "-H", os.environ["DOCKER_HOST"]],
                                  stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + ENGINE_START_S
            while daemon.poll() is None and time.monotonic() < deadline:
                with contextlib.suppress(subprocess.CalledProcessError):
                    run("docker", "info", quiet=True)
                    break
                time.sleep(1)
            else:
                raise SystemExit(f"no Docker engine could be started: see {work / 'dockerd.log'}")
            yield
        finally:
            daemon.terminate()
            daemon.wait(60)
            del os.environ["DOCKER_HOST"]


def size_of(image: str) -> int:
    """Bytes of an image, all its layers; 0 where there is none."""
    with contextlib.suppress(subprocess.CalledProcessError):
        return int(run("docker", "image", "inspect", "-f", "{{.Size}}", image, quiet=True))
    return 0


def make_base(work: Path) -> None:
    """The base image under the name that the Dockerfile asks for, where there is none: Debian with its Python 3.11."""
    if size_of(BASE):
        return
    print("making the base image")
    folder = work / "base"
    if not (folder / "usr/bin/python").exists():
        run("debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", DEBIAN, folder, debian_mirror())
        (folder / "usr/bin/python").symlink_to("python3.11")
        for needless in NEEDLESS:
            shutil.rmtree(folder / needless, ignore_errors=True)
    tar = subprocess.Popen(["tar", "-C", folder, "-c", "."], stdout=subprocess.PIPE)
    run("docker", "import", "-", BASE, stdin=tar.stdout)
    tar.wait()


def debian_mirror() -> str:
    """Where this machine's apt takes Debian 12 from."""
    listed = run("apt-get", "indextargets", "--format", "$(CODENAME) $(COMPONENT) $(REPO_URI)", "Created-By: Packages")
    found = [line.split()[2] for line in listed.splitlines() if line.split()[:2] == [DEBIAN, "main"]]
    if not found:
        raise SystemExit(f"there is no image {BASE}, and apt's sources have no Debian {DEBIAN} to make one from")
    return found[0]


def build(work: Path, context: Path = CONTEXT) -> None:
    """Build the image, with packages from wheels on loopback."""
    wheels = fetch_wheels(work)
    with serve(wheels) as port:
        pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": f"http://127.0.0.1:{port}/", "PIP_TRUSTED_HOST": "127.0.0.1"}
        with tempfile.TemporaryDirectory() as folder:
            # The base gains pip's settings under another name: the image that is checked has none of them.
            dockerfile = Path(folder) / "Dockerfile"
            text = (context / "Dockerfile").read_text()
            settings = "ENV " + " ".join(f"{name}={value}" for name, value in pip.items())
            dockerfile.write_text(text.replace("AS packages\n", f"AS packages\n{settings}\n"))
            print(run("docker", "build", "--network", "host", "-f", dockerfile, "-t", IMAGE, context,
                      env=os.environ | {"DOCKER_BUILDKIT": "0"})[-300:])


def fetch_wheels(work: Path) -> Path:
    """A folder with the wheels of everything that the image installs."""
    wheels = work / "wheels"
    needs = tomllib.loads((CONTEXT / "pyproject.toml").read_text())["project"]["dependencies"]
    run(sys.executable, "-m", "pip", "download", "-q", "-d", wheels, "-c", CONTEXT / "constraints.txt", *needs, "setuptools",
        "wheel")
    return wheels


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[int]:
    """Serve a folder on loopback, always at the same port where it is free, so that a second build finds its layers."""
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 8899), functools.partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def packages_stay(work: Path) -> bool:
    """Whether an image of changed source has all layers but its last in common with the one that there is."""
    before = layers(IMAGE)
    run("docker", "tag", IMAGE, "sam-service:checked")
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder) / "context"
        shutil.copytree(CONTEXT, context, ignore=shutil.ignore_patterns("__pycache__", ".*cache", "*.egg-info"))
        shutil.copy(CONTEXT / ".dockerignore", context)
        (context / "sam_service" / "defaults.py").open("a").write("\n# changed\n")
        build(work, context)
        after = layers(IMAGE)
    run("docker", "tag", "sam-service:checked", IMAGE)
    return before[:-1] == after[:-1] and before != after


def layers(image: str) -> Sequence[str]:
    """The layers of an image, first to last."""
    return run("docker", "image", "inspect", "-f", "{{join .RootFS.Layers \" \"}}", image).split()


if __name__ == "__main__":
    sys.exit(main())
