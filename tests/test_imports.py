"""The house's one rule: imports point one way, and each heavy library lives in one room."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "sam-service" / "sam_service"

# What each room may import of ours, besides itself.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "failures": {"errors"},
    "telemetry": set(),
    "logs": set(),
    "modes": set(),
    "schemas": {"masks", "export", "core", "modes"},
    "settings": {"core", "modes"},
    "video": {"errors", "failures"},
    "masks": {"errors"},
    "core": {"errors", "failures", "telemetry"},
    "export": {"errors", "failures", "masks", "video"},
    "sessions": {"core", "video", "masks", "export", "errors", "failures", "telemetry", "logs"},
    "api": {"sessions", "core", "video", "masks", "export", "errors", "failures", "schemas", "settings", "telemetry", "logs",
            "modes", "demo_clip"},
    "defaults": set(),
    "client": {"masks", "export", "defaults"},
}
DOORS = {"__main__", "cli", "commands", "server", "connection", "websocket", "flow", "local", "suggest", "demo_clip",
         "__init__"}
HEAVY = {"torch": {"core"}, "transformers": {"core"}, "fastapi": {"api"}, "starlette": {"api"},
         "uvicorn": {"server", "connection", "websocket", "local"}, "httpx": {"client", "core"},
         "prometheus_client": {"telemetry", "api"}}


def modules() -> Iterator[tuple[str, Path]]:
    """Every module with the room that it lies in."""
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).parts[0].removesuffix(".py"), path


def imports(path: Path) -> Iterator[str]:
    """Absolute names that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module
            if node.module == "sam_service":
                yield from (f"sam_service.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(("room", "path"), list(modules()), ids=lambda value: str(value).rsplit("/", 1)[-1])
def test_imports_point_one_way(room: str, path: Path) -> None:
    assert room in ALLOWED or room in DOORS, f"a new room: say what {room} may import"
    for name in imports(path):
        top, _, rest = name.partition(".")
        if top == "sam_service" and room in ALLOWED and rest and not rest.startswith("__"):
            assert rest.split(".")[0] in ALLOWED[room] | {room}, f"{path.name} imports {name}"
        if top in HEAVY and (room in ALLOWED or top == "torch"):
            assert room in HEAVY[top] or (room, top) == ("cli", "torch"), f"{path.name} imports {name}"


def test_settings_and_schemas_take_the_list_of_sizes_and_nothing_else_from_core() -> None:
    for room, path in modules():
        if room in ("settings", "schemas"):
            taken = {name for name in imports(path) if name.startswith("sam_service.core")}
            assert taken <= {"sam_service.core.models.registry"}


def test_opencv_stays_out_of_the_session_engine() -> None:
    users = {str(path.relative_to(PACKAGE / "core")) for room, path in modules() if room == "core"
             if "cv2" in {name.split(".")[0] for name in imports(path)}}
    assert {user for user in users if not user.startswith("models/nano/")} == {"flow.py", "frames.py"}


@pytest.mark.parametrize("name", ["sam_service", "sam_service.cli", "sam_service.settings", "sam_service.schemas"])
def test_the_doors_are_light(name: str) -> None:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    top_level = ast.Module(ast.parse(Path(spec.origin).read_text()).body, [])
    named = {name for node in top_level.body if isinstance(node, ast.ImportFrom) for name in [node.module or ""]}
    named |= {alias.name for node in top_level.body if isinstance(node, ast.Import) for alias in node.names}
    assert not {"torch", "fastapi", "transformers"} & {name.split(".")[0] for name in named}


def test_nothing_below_the_doors_reads_the_environment() -> None:
    doors = ("settings", "client")  # the client lives in other people's programs, and takes its key from there
    readers = [path.name for room, path in modules() if room in ALLOWED and room not in doors
               if "os.environ" in path.read_text() or "getenv" in path.read_text()]
    # threads.py and environment.py set variables that libraries read at import; launch.py hands a few of the system's on.
    assert sorted(readers) == ["environment.py", "launch.py", "threads.py"]
    assert sys.version_info >= (3, 11)


DECODER = {"decoder.py", "writer_child.py"}  # of processes of their own


def test_no_process_loads_two_copies_of_ffmpeg() -> None:
    """PyAV and OpenCV bundle one each. The modules with PyAV are imported by no module but the decoding process's."""
    with_pyav = {path.name for _, path in modules() if any(name.partition(".")[0] == "av" for name in imports(path))}
    assert with_pyav == DECODER
    importers = {path.name for _, path in modules() if {"sam_service.video.decoder", "sam_service.video.child",
                                                         "sam_service.video.writer_child"} & set(imports(path))}
    assert importers == {"child.py"}
    for module in ("child", "writer_child"):
        program = f"import sys, sam_service.video.{module}; sys.exit(not {{'av'}} <= set(sys.modules) or 'cv2' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0, module
