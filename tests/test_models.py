"""`sam-service models`, pinned revisions and checksums: against a hub on loopback, with weights of the real size and layout."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from sam_service.client import SamClient
from sam_service.commands.exits import Exit
from sam_service.commands.models import list_models, pull_models
from sam_service.core.models.catalogue import available_models
from sam_service.core.models.hub import fetch, find_cached
from sam_service.core.models.nano.sizes import FOLDER as NANO_FOLDER
from sam_service.core.models.registry import SIZES, check_folder
from sam_service.core.models.sam2.config import config_for
from sam_service.core.models.sam2.network import empty_model
from sam_service.errors import ModelUnavailable
from sam_service.local import local_service

from tests.hub import Hub, serve_hub
from tests.networks import load_network
from tests.support import settings

REPO = str(SIZES["tiny"].repo)
COMMIT, OTHER = "a1" * 20, "b2" * 20
WRONG = "0" * 64


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """tiny on `main`, and what is not tiny under the tag `other`."""
    whole, other = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("other")
    config = config_for("tiny")
    save_file({name: torch.zeros(value.shape, dtype=torch.half) for name, value in empty_model(config).state_dict().items()},
              whole / "model.safetensors")
    save_file({"no_object_pointer": torch.zeros(1, 256)}, other / "model.safetensors")
    for folder in (whole, other):
        (folder / "config.json").write_text(json.dumps(config.to_dict()))
        (folder / "README.md").write_text("not asked for")
    with serve_hub() as running:
        running.publish(REPO, COMMIT, whole, "main")
        running.publish(REPO, OTHER, other, "other")
        yield running


def environment(hub: Hub | None, home: Path, **variables: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1",
            "HF_ENDPOINT": hub.url if hub else "http://127.0.0.1:9", **variables}


def command(*arguments: str, hub: Hub | None, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "sam_service", "models", *arguments], cwd=home,
                          env=environment(hub, home, **variables), capture_output=True, text=True, timeout=120, check=False)


@dataclass
class Pull:
    """What a pull wrote, and where."""

    home: Path
    code: int
    out: str
    terminal: str

    @property
    def cache(self) -> Path:
        return self.home / "hub"

    @property
    def weights(self) -> Path:
        return self.cache / "models--facebook--sam2.1-hiera-tiny" / "snapshots" / COMMIT / "model.safetensors"


@pytest.fixture(scope="module")
def pulled(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Pull:
    """`models pull nano tiny` with a terminal for stderr. Read only."""
    home = tmp_path_factory.mktemp("home")
    outside, inside = pty.openpty()
    termios.tcsetwinsize(outside, (24, 120))
    hub.pause_s = 0.01
    with subprocess.Popen([sys.executable, "-m", "sam_service", "models", "pull", "nano", "tiny"], cwd=home,
                          env=environment(hub, home), stdout=subprocess.PIPE, stderr=inside, text=True) as process:
        os.close(inside)
        shown = b""
        try:
            while part := os.read(outside, 65536):
                shown += part
        except OSError:  # how Linux ends a terminal whose other side is closed
            pass
        assert process.stdout is not None
        out = process.stdout.read()
    os.close(outside)
    hub.pause_s = 0.0
    return Pull(home, process.returncode, out, shown.decode())


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_pull_shows_bytes_and_tells_where_they_lie(pulled: Pull) -> None:
    assert pulled.code == 0, pulled.terminal
    assert pulled.out.splitlines()[0] == "nano: embedded in the package, there is nothing to pull"
    for told in (str(pulled.weights), COMMIT, digest(pulled.weights), f"{pulled.weights.stat().st_size / 1e6:.1f} MB"):
        assert told in pulled.out
    bars = [line for line in pulled.terminal.split("\r") if "left" in line]
    assert any("tiny" in line and "B of 78" in line and "B/s" in line for line in bars), pulled.terminal
    assert not (pulled.weights.parent / "README.md").exists()


@pytest.fixture
def here(pulled: Pull, monkeypatch: pytest.MonkeyPatch) -> Pull:
    """The pulled cache is that of this process, whose hub's client has read HF_HOME long ago."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(pulled.cache))
    return pulled


def test_pull_of_what_is_there_asks_nobody(pulled: Pull, hub: Hub) -> None:
    asked = len(hub.asked)
    done = command("pull", "tiny", "--sha256", digest(pulled.weights).upper(), hub=hub, home=pulled.home)
    assert (done.returncode, done.stderr) == (0, "")
    assert "there already" in done.stdout and digest(pulled.weights) in done.stdout
    assert len(hub.asked) == asked


def test_pull_refuses_another_checksum_and_leaves_the_file(here: Pull, capsys: pytest.CaptureFixture[str]) -> None:
    assert pull_models(settings(), ["tiny"], revision=None, sha256=WRONG, as_json=True) == Exit.REFUSED
    told = capsys.readouterr()
    assert WRONG in told.err and digest(here.weights) in told.err
    [item] = json.loads(told.out)["models"]
    assert (item["state"], item["sha256"], item["file"]) == ("failed", digest(here.weights), str(here.weights))
    assert here.weights.is_file()


def test_the_settings_hold_for_their_size(here: Pull, capsys: pytest.CaptureFixture[str]) -> None:
    def pull(**options: object) -> Exit:
        return pull_models(settings(hf_hub_offline=True, **options), ["tiny"], revision=None, sha256=None, as_json=False)

    assert pull(sam2_model_size="tiny", sam2_checkpoint_sha256=WRONG) == Exit.REFUSED
    assert pull(sam2_model_size="small", sam2_checkpoint_sha256=WRONG, sam2_revision=OTHER) == Exit.OK
    assert pull(sam2_model_size="tiny", sam2_revision=OTHER) == Exit.NOT_READY
    assert "not in the local cache" in capsys.readouterr().err


def test_list_tells_what_is_here(pulled: Pull) -> None:
    done = command("list", "--json", hub=None, home=pulled.home)
    assert (done.returncode, done.stderr) == (0, "")
    models = {model["size"]: model for model in json.loads(done.stdout)["models"]}
    assert list(models) == list(SIZES)
    assert [size for size, model in models.items() if model["present"]] == ["nano", "tiny"]
    assert (models["tiny"]["commit"], models["tiny"]["folder"]) == (COMMIT, str(pulled.weights.parent))


def test_the_table_of_models(here: Pull, capsys: pytest.CaptureFixture[str]) -> None:
    assert list_models(settings(sam2_model_size="small", sam2_revision=OTHER), as_json=False) == Exit.OK
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["size", "parameters", "input", "source", "here", "weights"]
    assert [line.split()[0] for line in table[1:]] == list(SIZES)
    rows = {line.split()[0]: line for line in table[1:]}
    assert str(NANO_FOLDER) in rows["nano"]
    assert rows["tiny"].endswith(f"yes   {here.weights.parent}, commit {COMMIT}")
    assert f"@{OTHER}" in rows["small"] and rows["small"].endswith("no    sam-service models pull small")


@pytest.mark.parametrize(("arguments", "told"), [
    (["pull", "huge"], "huge"),
    (["pull"], "SIZE"),
    (["pull", "tiny", "small", "--revision", "main"], "one size"),
    (["pull", "tiny", "small", "--sha256", WRONG], "one size"),
    (["pull", "tiny", "--sha256", "12"], "64 hexadecimal digits"),
])
def test_a_wrong_command_line(arguments: list[str], told: str, tmp_path: Path) -> None:
    done = command(*arguments, hub=None, home=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr


def test_pull_without_a_hub(tmp_path: Path) -> None:
    done = command("pull", "tiny", "large", hub=None, home=tmp_path)
    assert (done.returncode, done.stdout) == (4, "")
    assert "ConnectError" in done.stderr and str(SIZES["large"].repo) in done.stderr
    assert "Traceback" not in done.stderr


def test_pull_while_the_network_is_switched_off(tmp_path: Path) -> None:
    done = command("pull", "tiny", hub=None, home=tmp_path, HF_HUB_OFFLINE="true")
    assert (done.returncode, done.stdout) == (4, "")
    assert "not in the local cache" in done.stderr


def test_pull_of_a_revision_that_is_not_there(hub: Hub, tmp_path: Path) -> None:
    done = command("pull", "tiny", "--revision", "v9", hub=hub, home=tmp_path)
    assert done.returncode == 4 and "no commit, tag or branch v9" in done.stderr


def test_pull_of_another_network(hub: Hub, tmp_path: Path) -> None:
    done = command("pull", "tiny", "--revision", "other", hub=hub, home=tmp_path)
    assert done.returncode == 3 and "missing" in done.stderr
    assert "Traceback" not in done.stderr


def test_pull_onto_a_full_disk(hub: Hub, tmp_path: Path) -> None:
    home = tmp_path / "disk"
    home.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(home)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        hub.asked.clear()
        done = command("pull", "tiny", hub=hub, home=home)
        assert (done.returncode, done.stdout) == (5, "")
        assert "no room" in done.stderr and "Traceback" not in done.stderr
        assert f"GET /{REPO}/resolve/{COMMIT}/model.safetensors" not in hub.asked
        assert not list(home.rglob("*.incomplete"))
    finally:
        subprocess.run(["umount", "--lazy", str(home)], check=True)


def test_ctrl_c_ends_a_download_and_leaves_nothing_half(hub: Hub, tmp_path: Path) -> None:
    hub.asked.clear()
    hub.pause_s = 0.2
    try:
        with subprocess.Popen([sys.executable, "-m", "sam_service", "models", "pull", "tiny"], cwd=tmp_path, text=True,
                              env=environment(hub, tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            deadline = time.monotonic() + 60
            while not list(tmp_path.rglob("*.incomplete")):
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
    finally:
        hub.pause_s = 0.0
    assert (process.returncode, out) == (130, "")
    assert "interrupted" in err and "Traceback" not in err
    assert not list(tmp_path.rglob("*.incomplete")) and not list(tmp_path.rglob("model.safetensors"))


def test_a_pinned_commit_is_loaded_and_named(pulled: Pull) -> None:
    by_branch = load_network("tiny", cache_dir=pulled.cache, offline=True, image_size=256)
    assert by_branch.info.source == f"hub {REPO}@main (commit {COMMIT})"
    pinned = load_network("tiny", cache_dir=pulled.cache, offline=True, image_size=256, revision=COMMIT,
                          sha256=digest(pulled.weights))
    assert pinned.info.source == f"hub {REPO}@{COMMIT}"
    with pytest.raises(ModelUnavailable, match=f"{REPO} at {OTHER} .*not in the local cache"):
        load_network("tiny", cache_dir=pulled.cache, offline=True, revision=OTHER)


def test_a_cached_commit_asks_nobody_and_a_branch_is_looked_up(pulled: Pull, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    hub.asked.clear()
    assert fetch(REPO, COMMIT, cache_dir=pulled.cache).commit == COMMIT
    assert not hub.asked
    assert fetch(REPO, "main", cache_dir=pulled.cache).folder == pulled.weights.parent
    assert hub.asked[-1] == f"GET /api/models/{REPO}/revision/main" and not any("resolve" in path for path in hub.asked)


def test_another_checksum_is_not_read(pulled: Pull, tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    file.write_bytes(b"not even a PyTorch file")
    for checkpoint, found in ((None, pulled.weights), (str(pulled.weights.parent), pulled.weights), (str(file), file)):
        with pytest.raises(ModelUnavailable, match=f"SHA-256 is {digest(found)}, not {WRONG}"):
            load_network("tiny", checkpoint=checkpoint, cache_dir=pulled.cache, offline=True, sha256=WRONG)
    with pytest.raises(ModelUnavailable, match="cannot be read as Meta's"):
        load_network("tiny", checkpoint=file, sha256=digest(file).upper())
    with pytest.raises(ModelUnavailable, match="model.safetensors cannot be read"):
        load_network("tiny", checkpoint=tmp_path, sha256=WRONG)


def test_folders_are_checked_by_their_header(pulled: Pull, tmp_path: Path) -> None:
    check_folder("tiny", pulled.weights.parent)
    with pytest.raises(ModelUnavailable, match="blocks_per_stage"):
        check_folder("small", pulled.weights.parent)
    folder = Path(shutil.copytree(pulled.weights.parent, tmp_path / "half"))
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(1_000_000)
    with pytest.raises(ModelUnavailable, match="in good order"):
        check_folder("tiny", folder)


def test_half_a_snapshot_is_not_there(pulled: Pull, tmp_path: Path) -> None:
    cache = Path(shutil.copytree(pulled.cache, tmp_path / "hub", symlinks=True))
    assert find_cached(REPO, "main", cache)
    next(cache.rglob("config.json")).unlink()
    assert find_cached(REPO, "main", cache) is None
    assert [model.size for model in available_models(cache) if model.present] == ["nano"]


def test_settings_reach_the_loader() -> None:
    with local_service(settings(sam2_checkpoint_sha256=WRONG)) as url, SamClient(url) as client:
        assert f"SHA-256 is {digest(NANO_FOLDER / 'model.safetensors')}, not {WRONG}" in failure(client)
    with local_service(settings(sam2_model_size="tiny", sam2_revision=OTHER, hf_hub_offline=True)) as url, \
            SamClient(url) as client:
        assert f"{REPO} at {OTHER}" in failure(client)


def failure(client: SamClient) -> str:
    """Why the service has no model, once it knows."""
    deadline = time.monotonic() + 30
    while (error := client.health()["error"]) is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return str(error)
