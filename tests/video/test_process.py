"""The process that decodes: what it may not do, and what the service makes of its end."""

from __future__ import annotations

import io
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image
from sam_service.errors import CapacityError, EngineError, NotAVideo, NotFound, ServiceError, TooLarge
from sam_service.sessions.paths import resolve_video
from sam_service.video.extract import Extraction
from sam_service.video.frames import FrameStore
from sam_service.video.job import Job
from sam_service.video.launch import Spares
from sam_service.video.limits import VideoLimits
from sam_service.video.manifest import FrameOptions
from sam_service.video.process import DecodingProcess
from sam_service.video.source import open_source
from sam_service.video.wire import Channel, unpack_frame

from tests import clips

LONG = Job(0, 1, None, 640, 480, 85)


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 pictures, more than a socket holds."""
    return clips.write_video(tmp_path_factory.mktemp("long") / "clip.avi", 200, 640, 480, codec="MJPG")


@pytest.fixture
def process(long_clip: Path) -> Iterator[DecodingProcess]:
    with DecodingProcess(long_clip, VideoLimits()) as opened:
        opened.open()
        yield opened


def pid_of(process: DecodingProcess) -> int:
    assert process._started is not None
    return process._started.process.pid


@pytest.mark.parametrize(
    ("number", "kind", "code"),
    [
        (signal.SIGSEGV, NotAVideo, "decoder_crashed"),
        (signal.SIGABRT, NotAVideo, "decoder_crashed"),
        (signal.SIGXCPU, NotAVideo, "decoder_stuck"),
        (signal.SIGKILL, CapacityError, "decoder_killed"),
        (signal.SIGTERM, EngineError, "extraction_failed"),
        (signal.SIGSTOP, EngineError, "decoder_silent"),
    ],
)
def test_each_end_of_a_process_has_its_error(
    process: DecodingProcess, number: int, kind: type[ServiceError], code: str
) -> None:
    frames = process.frames(LONG)
    next(frames)
    if number == signal.SIGSTOP:
        assert process._started is not None
        process._started.socket.settimeout(1)  # of the 60 s that a busy machine may need
    os.kill(pid_of(process), number)
    with pytest.raises(kind) as caught:
        for _ in frames:
            pass
    assert caught.value.code == code


def test_a_crash_is_the_videos_fault_and_remembered(long_clip: Path, tmp_path: Path) -> None:
    process = DecodingProcess(long_clip, VideoLimits())
    store = FrameStore.create(tmp_path, process.open(), FrameOptions())
    work = Extraction(long_clip, store)
    os.kill(pid_of(process), signal.SIGSEGV)
    work.start(process)
    work.join(30)
    assert FrameStore.open(tmp_path).error is not None
    assert not FrameStore.open(tmp_path).needs_extraction


def test_a_process_that_was_killed_may_be_tried_again(long_clip: Path, tmp_path: Path) -> None:
    process = DecodingProcess(long_clip, VideoLimits())
    store = FrameStore.create(tmp_path, process.open(), FrameOptions(max_frames=3))
    work = Extraction(long_clip, store)
    os.kill(pid_of(process), signal.SIGKILL)
    work.start(process)
    work.join(30)
    assert isinstance(store.error, CapacityError)
    work.start()
    work.join(30)
    assert store.complete
    assert store.num_frames == 3


def test_too_little_memory_for_the_pictures(tmp_path: Path) -> None:
    path = clips.write_video(tmp_path / "4k.mp4", 2, 3840, 2160)
    with pytest.raises(TooLarge) as caught, DecodingProcess(path, VideoLimits(max_memory_bytes=64 << 20)) as process:
        process.open()
        list(process.frames(Job(0, 1, None, 3840, 2160, 85)))
    assert caught.value.code == "too_much_memory"


def test_a_picture_that_takes_too_long_ends_the_process(process: DecodingProcess) -> None:
    """The limit is set anew for each picture, so the process comes far with little, and not on when it is stuck."""
    limits = psutil.Process(pid_of(process)).rlimit(psutil.RLIMIT_CPU)
    assert limits[0] <= VideoLimits().max_frame_cpu_s + 2


def test_what_is_confined(process: DecodingProcess, long_clip: Path) -> None:
    next(process.frames(LONG))
    child = psutil.Process(pid_of(process))
    assert child.nice() >= 5
    assert child.rlimit(psutil.RLIMIT_FSIZE) == child.rlimit(psutil.RLIMIT_CORE) == (0, 0)
    assert child.rlimit(psutil.RLIMIT_NOFILE)[1] <= 64
    assert child.rlimit(psutil.RLIMIT_AS)[1] < VideoLimits().max_memory_bytes + (1 << 30)
    assert not any("torch" in region.path for region in child.memory_maps())
    assert "SAM2_API_KEY" not in child.environ()
    if sys.platform == "linux":
        lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
        told = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        assert (told["NoNewPrivs"], int(told["CapEff"], 16), int(told["CapPrm"], 16)) == ("1", 0, 0)
        assert Path(f"/proc/{child.pid}/oom_score_adj").read_text().strip() == "500"
        assert "system calls" not in process.guards or told["Seccomp"] == "2"
    opened = child.open_files()
    assert {file.path for file in opened} == {str(long_clip)}


CONFINED = """
import os, pathlib, socket, sys
from sam_service.video import confine
confine.filter_system_calls = lambda **_: False
video = os.open(sys.argv[1], os.O_RDONLY)
guards = confine.confine(video, 1 << 30, 1000)
for name, attempt in {
    "read": lambda: open("/etc/passwd"),
    "write": lambda: open(sys.argv[1] + ".new", "w"),
    "list": lambda: os.listdir("/"),
    "run": lambda: os.execv("/bin/true", ["true"]),
    "connect": lambda: socket.create_connection(("127.0.0.1", int(sys.argv[2])), 1),
    "signal": lambda: os.kill(os.getppid(), 0),
}.items():
    try:
        attempt()
    except PermissionError:
        print(name, end=" ")
assert os.pread(video, 4, 0)
print(*guards)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Landlock is Linux's")
def test_a_confined_process_sees_nothing_but_its_video(long_clip: Path, service: str) -> None:
    """By Landlock alone, where the system calls are not filtered."""
    port = service.rsplit(":", 1)[1]
    run = subprocess.run([sys.executable, "-c", CONFINED, long_clip, port], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    if "landlock" not in run.stdout:
        pytest.skip("this kernel has no Landlock")
    assert run.stdout.split()[:4] == ["read", "write", "list", "run"]


def test_cancelling_while_nobody_takes_frames(process: DecodingProcess) -> None:
    frames = process.frames(LONG)
    next(frames)
    process.kill()
    with pytest.raises(ServiceError):
        list(frames)
    process.close()
    process.close()


PARENT = """
import sys, time
from pathlib import Path
from sam_service.video.limits import VideoLimits
from sam_service.video.process import DecodingProcess
process = DecodingProcess(Path(sys.argv[1]), VideoLimits())
process.open()
print(process._started.process.pid, flush=True)
time.sleep(60)
"""


def test_no_process_outlives_the_service(long_clip: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, long_clip], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    parent.stdout.readline()
    children = psutil.Process(parent.pid).children()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    gone, alive = psutil.wait_procs(children, 20)
    assert not alive
    assert gone


def test_a_spare_that_died_is_replaced() -> None:
    spares = Spares()
    first = spares.take()
    first.close()
    spares.refill()
    assert spares._spare is not None
    waiting = spares._spare.result()
    waiting.process.kill()
    while waiting.process.poll() is None:
        time.sleep(0.01)
    second = spares.take()
    assert second.process.poll() is None
    second.close()
    spares.close()


def test_the_decoders_messages_are_in_the_log_and_nowhere_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = clips.write_video(tmp_path / "whole.mp4", frames=24)
    path = clips.cut_off(whole, tmp_path / "cut.mp4", 0.6)
    capfd.readouterr()
    with caplog.at_level("INFO"), pytest.raises(NotAVideo) as caught, DecodingProcess(path, VideoLimits()) as process:
        process.open()
    assert "moov" in caplog.text, (caught.value.code, caught.value.message)
    assert "moov" not in caught.value.message
    assert "0x" not in caught.value.message
    assert capfd.readouterr().err == ""


FILTERED = """
import ctypes, fcntl, os, resource, signal, socket, sys, threading
from sam_service.video import confine
confine._landlock = lambda *_: False
other = int(sys.argv[2])
if os.geteuid() == 0 and len(sys.argv) > 3:
    os.setgid(1000); os.setuid(1000)
video = os.open(sys.argv[1], os.O_RDONLY)
pair = socket.socketpair()
print(*confine.confine(video, 1 << 30, 1000), end=" | ", flush=True)
libc = ctypes.CDLL(None, use_errno=True)
def prlimit():
    if libc.prlimit(other, resource.RLIMIT_NOFILE, ctypes.byref((ctypes.c_ulong * 2)(8, 8)), None):
        raise OSError(ctypes.get_errno(), "prlimit")
def raise_own_limit():
    resource.setrlimit(resource.RLIMIT_CPU, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
def outlive():
    if libc.prctl(1, 0, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
def signal_when_readable():
    fcntl.fcntl(pair[0], fcntl.F_SETOWN, other)
    fcntl.fcntl(pair[0], fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(pair[0], fcntl.F_SETFL, os.O_ASYNC)
    pair[1].sendall(b"y")
def call(number, *arguments):
    if libc.syscall(ctypes.c_long(number), *arguments) < 0:
        raise OSError(ctypes.get_errno(), "system call")
flags, attributes = ctypes.c_long(0x40), (ctypes.c_char * 64)()
def chattr():
    if libc.ioctl(video, 0x40086602, ctypes.byref(flags)):
        raise OSError(ctypes.get_errno(), "ioctl")
attempts = {
    "limits": prlimit, "own limit": raise_own_limit, "outlive": outlive,
    "kill": lambda: os.kill(other, 0), "priority": lambda: os.setpriority(os.PRIO_PROCESS, other, 10),
    "priority of all": lambda: os.setpriority(os.PRIO_USER, 0, 10),
    "fork": os.fork, "session": os.setsid, "run": lambda: os.execv("/bin/true", ["true"]),
    "tcp": lambda: socket.socket(socket.AF_INET), "udp": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "mptcp": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262), "unix": lambda: socket.socket(socket.AF_UNIX),
    "netlink": lambda: socket.socket(16, socket.SOCK_RAW, 0), "pair": socket.socketpair,
    "mode": lambda: os.chmod(video, 0o777), "times": lambda: os.utime(video), "owner": lambda: os.chown(video, 1000, 1000),
    "write": lambda: open(sys.argv[1], "ab"), "remove": lambda: os.unlink(sys.argv[1]),
    "device": lambda: os.open("/dev/null", os.O_WRONLY), "memory file": lambda: os.memfd_create("a"),
    "signal when readable": signal_when_readable, "signal by ioctl": lambda: fcntl.ioctl(pair[0], 0x8901, ctypes.c_int(other)),
    "attributes": chattr, "attributes by name": lambda: call(469, -100, sys.argv[1].encode(), ctypes.byref(attributes), 24, 0),
    "lease": lambda: fcntl.fcntl(video, 1024, fcntl.F_RDLCK), "lock": lambda: fcntl.lockf(video, fcntl.LOCK_SH),
    "environment": lambda: open(f"/proc/{other}/environ"), "memory": lambda: open(f"/proc/{other}/mem", "rb"),
    "read": lambda: open("/etc/passwd"), "list": lambda: os.listdir("/proc"),
}
let_through = []
for name, attempt in attempts.items():
    try:
        attempt()
        let_through.append(name)
    except (OSError, ValueError):
        pass
fcntl.fcntl(pair[0], fcntl.F_SETFL, 0)
threading.Thread(target=lambda: None).start()
pair[0].sendall(b"x")
assert pair[1].recv(1) == b"x" and os.pread(video, 4, 0)
print("let through:", *let_through)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="seccomp is Linux's")
@pytest.mark.parametrize("user", ["as it is", "as uid 1000"])
def test_a_process_that_was_taken_over_reaches_nobody(long_clip: Path, tmp_path: Path, user: str) -> None:
    path = tmp_path / "clip.avi"
    path.write_bytes(long_clip.read_bytes())
    if user == "as uid 1000":
        if os.geteuid() != 0:
            pytest.skip("only root can become another user")
        for folder in (tmp_path, *tmp_path.parents):
            if folder == Path(tempfile.gettempdir()):
                break
            folder.chmod(0o755)
        path.chmod(0o666)
    victim = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    before = (psutil.Process(victim.pid).rlimit(psutil.RLIMIT_NOFILE), path.stat().st_mtime_ns, path.stat().st_mode)
    try:
        arguments = [str(path), str(victim.pid), *(["1000"] if user == "as uid 1000" else [])]
        run = subprocess.run([sys.executable, "-c", FILTERED, *arguments], capture_output=True, text=True, timeout=60)
        assert run.returncode == 0, run.stderr
        guards, _, answer = run.stdout.partition("|")
        if "system calls" not in guards:
            pytest.skip("this machine has no filter of system calls")
        assert answer.strip() == "let through:"
        assert (psutil.Process(victim.pid).rlimit(psutil.RLIMIT_NOFILE), path.stat().st_mtime_ns, path.stat().st_mode) == before
    finally:
        victim.communicate(b"\n", timeout=10)


def test_a_whole_file_has_a_limit_of_processor_time(process: DecodingProcess) -> None:
    soft, hard = psutil.Process(pid_of(process)).rlimit(psutil.RLIMIT_CPU)
    assert 0 < soft < hard <= VideoLimits().max_cpu_s + 10


def packed(width: int, height: int, **options: object) -> bytes:
    """A frame as a decoding process sends it."""
    buffer = io.BytesIO()
    Image.effect_noise((width, height), 90).convert("RGB").save(buffer, "JPEG", **options)
    return struct.pack("<dq", 0.0, 0) + buffer.getvalue()


def test_a_frame_is_a_picture_of_its_size_in_one_scan() -> None:
    """What the service decodes later must not take memory and time that the decoding process was not given."""
    for quality in range(1, 101, 3):
        assert unpack_frame(packed(64, 48, quality=quality), 64, 48).data.startswith(b"\xff\xd8")
    good = packed(64, 48)
    claimed = good.replace(struct.pack(">HH", 48, 64), struct.pack(">HH", 65000, 65000))
    for bad in (claimed, packed(64, 48, progressive=True), packed(48, 64), good[:40], good[:18], good[:16]):
        with pytest.raises(ValueError, match=r"JPEG|bytes"):
            unpack_frame(bad, 64, 48)
    with pytest.raises(ValueError, match="bytes"):
        unpack_frame(good, 64, 48, raw=True)


@pytest.mark.parametrize("message", [
    b"F" + struct.pack("<I", 0xFFFFFFFF), b"Z" + struct.pack("<I", 0), b"I" + struct.pack("<I", 2) + b"{}",
    b"X" + struct.pack("<I", 30) + b'{"kind":"SystemExit","code":1} ', b"X" + struct.pack("<I", 5) + b"\x80\x04K\x01.",
    b"X" + struct.pack("<I", 74) + b'{"kind": "NotAVideo", "message": "a", "field": "file", "code": "<script>"}',
    b"X" + struct.pack("<I", 67) + b'{"kind": "NotAVideo", "message": [1], "field": null, "code": "a_b"}',
    b"F" + struct.pack("<I", 18) + struct.pack("<dq", float("nan"), 0) + b"\xff\xd8"])
def test_what_a_decoder_should_never_send_ends_it(process: DecodingProcess, message: bytes) -> None:
    """Words of a process that was taken over: too long, of no kind, without fields, an error that is none of ours, a pickle."""
    ours, theirs = socket.socketpair()
    with theirs:
        process._started.channel, real = Channel(ours), process._started.channel  # type: ignore[union-attr]
        theirs.sendall(message)
        with pytest.raises(NotAVideo) as caught:
            next(process.frames(LONG))
        assert caught.value.code == "decoder_crashed"
        process._started.channel.close()  # type: ignore[union-attr]
        process._started.channel = real  # type: ignore[union-attr]


def test_a_path_that_becomes_a_link_behind_the_check_is_refused(tmp_path: Path) -> None:
    inside = tmp_path / "videos" / "folder"
    inside.mkdir(parents=True)
    clips.write_video(inside / "clip.mp4", 2)
    (tmp_path / "outside").mkdir()
    clips.write_video(tmp_path / "outside" / "clip.mp4", 2)
    for name in ("folder/clip.mp4", "folder"):
        path = resolve_video(tmp_path / "videos", "folder/clip.mp4")
        os.close(open_source(path))
        swapped = tmp_path / "videos" / name
        swapped.rename(tmp_path / "before")
        swapped.symlink_to(tmp_path / "outside" / name.removeprefix("folder").lstrip("/"))
        with pytest.raises(NotFound):
            open_source(path)
        swapped.unlink()
        (tmp_path / "before").rename(swapped)
