"""The container files and `.env.example` say the same as the settings. No Docker is needed, and none is run."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from sam_service.settings import Settings

ROOT = Path(__file__).parent.parent
CONTEXT = ROOT / "sam-service"
BASE, CPU, GPU = "docker-compose.yml", "docker-compose.cpu.yml", "docker-compose.gpu.yml"
OPTIONS = {name.upper() for name in Settings.model_fields}
ON_THE_COMMAND_LINE = {"HOST", "PORT"}
OF_LIBRARIES = {"OMP_NUM_THREADS", "PYTORCH_ENABLE_MPS_FALLBACK", "PYTORCH_MPS_HIGH_WATERMARK_RATIO",
                "PYTORCH_MPS_LOW_WATERMARK_RATIO", "HF_HOME"}
OF_COMPOSE = {"TORCH_INDEX", "CPU_LIMIT", "MEMORY_LIMIT"}


def load(name: str) -> dict[str, Any]:
    """A compose file as plain data."""
    document: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    return document


def merge(base: Any, override: Any) -> Any:
    """Mappings merge, lists append, anything else is replaced, as the compose specification has it."""
    if isinstance(base, dict) and isinstance(override, dict):
        return base | {key: merge(base[key], value) if key in base else value for key, value in override.items()}
    return base + override if isinstance(base, list) and isinstance(override, list) else override


def service(*names: str) -> dict[str, Any]:
    """The one service of some compose files, the later ones over the earlier."""
    merged: dict[str, Any] = {}
    for name in names:
        merged = merge(merged, load(name))
    assert list(merged["services"]) == ["sam-service"]
    found: dict[str, Any] = merged["services"]["sam-service"]
    return found


def example() -> dict[str, str]:
    """The variables of `.env.example` with the values that it shows."""
    return dict(re.findall(r"^#?([A-Z][A-Z0-9_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))


def instructions(keyword: str) -> list[str]:
    """The arguments of each instruction of that name in the Dockerfile."""
    text = (CONTEXT / "Dockerfile").read_text().replace("\\\n", " ")
    return re.findall(rf"^{keyword}\s+(.+)$", text, re.MULTILINE)


def test_env_example_names_every_option_once_and_nothing_else() -> None:
    names = re.findall(r"^#?([A-Z][A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert sorted(names) == sorted(OPTIONS | OF_LIBRARIES | OF_COMPOSE)


def test_env_example_shows_the_defaults() -> None:
    shown = example()
    for name, field in Settings.model_fields.items():
        value = shown[name.upper()]
        default = field.get_default()
        if isinstance(default, bool):
            assert value == str(default).lower(), name
        elif isinstance(default, float):
            assert float(value) == default, name
        else:
            assert value == ("" if default is None else str(default)), name


@pytest.mark.parametrize("name", [BASE, CPU, GPU])
def test_variables_of_compose_are_in_env_example(name: str) -> None:
    used = set(re.findall(r"\$\{([A-Z0-9_]+)", (ROOT / name).read_text()))
    assert used <= set(example())


def test_compose_hands_every_option_on() -> None:
    assert set(service(BASE)["environment"]) == OPTIONS - ON_THE_COMMAND_LINE | {"HF_HOME", "OMP_NUM_THREADS"}


def test_container_is_locked_down() -> None:
    found = service(BASE)
    assert found["user"] == "1000:1000"
    assert found["read_only"] is True and found["init"] is True
    assert found["cap_drop"] == ["ALL"]
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in found
    assert 100 < found["pids_limit"] <= 1024
    assert all(str(port).startswith("127.0.0.1:") for port in found["ports"])
    videos = next(volume for volume in found["volumes"] if isinstance(volume, dict))
    assert videos["target"] == "/videos" and videos["read_only"] is True


def test_what_is_written_lies_in_a_volume() -> None:
    found = service(BASE)
    targets = {volume.partition(":")[2] for volume in found["volumes"] if isinstance(volume, str)}
    assert {found["environment"]["SAM2_DATA_DIR"], found["environment"]["HF_HOME"]} == targets
    named = {volume.partition(":")[0] for volume in found["volumes"] if isinstance(volume, str)}
    assert named == set(load(BASE)["volumes"])


def test_three_cpus_are_reserved_and_sam_is_the_default() -> None:
    found = service(BASE)
    assert found["deploy"]["resources"]["reservations"]["cpus"] == "3.0"
    assert found["environment"]["SAM2_MODEL_SIZE"] == "${SAM2_MODEL_SIZE:-tiny}"


def test_no_compose_file_sets_threads_so_that_the_quota_decides() -> None:
    for names in ((BASE,), (BASE, CPU), (BASE, GPU)):
        environment = service(*names)["environment"]
        assert all(environment[name] is None for name in ("TORCH_NUM_THREADS", "TORCH_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"))


def test_cpu_file_forces_the_cpu() -> None:
    found = service(BASE, CPU)
    assert found["environment"]["SAM2_DEVICE"] == "cpu"
    assert found["environment"]["SAM2_QUANTIZE"] == "${SAM2_QUANTIZE:-false}"
    assert "devices" not in found["deploy"]["resources"]["reservations"]
    assert not {"devices", "gpus", "runtime"} & set(found)


def test_gpu_file_reserves_one_gpu_and_keeps_the_rest() -> None:
    found = service(BASE, GPU)
    reserved = found["deploy"]["resources"]["reservations"]
    assert found["environment"]["SAM2_DEVICE"] == "cuda"
    assert [(device["driver"], device["count"], device["capabilities"]) for device in reserved["devices"]] == [
        ("nvidia", 1, ["gpu"])]
    assert reserved["cpus"] == "3.0"


def test_dockerfile_copies_what_exists_and_is_in_the_context() -> None:
    let_in = set(re.findall(r"^!(.+)$", (CONTEXT / ".dockerignore").read_text(), re.MULTILINE))
    copied = {source for line in instructions("COPY") if not line.startswith("--from") for source in line.split()[:-1]}
    assert copied == let_in
    assert all((CONTEXT / source).exists() for source in copied)


def test_a_change_of_the_source_leaves_the_packages_layer_alone() -> None:
    """The source is copied in a stage of its own, and its layer comes after the packages' in the image."""
    stages = re.split(r"^FROM ", (CONTEXT / "Dockerfile").read_text(), flags=re.MULTILINE)[1:]
    by_name = {stage.splitlines()[0].split(" AS ")[-1]: stage for stage in stages}
    assert [name for name, stage in by_name.items() if "COPY sam_service" in stage] == ["service"]
    assert by_name["slim"].startswith("packages ")
    assert re.findall(r"^COPY --from=(\w+)", stages[-1], re.MULTILINE) == ["slim", "service"]


def test_what_makes_the_image_small_imports_all_that_the_service_imports() -> None:
    spec = importlib.util.spec_from_file_location("slim_image", CONTEXT / "slim_image.py")
    assert spec is not None and spec.loader is not None
    slim = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(slim)
    imported = {name.split(".")[0] for path in (CONTEXT / "sam_service").rglob("*.py") for name in names_imported(path)}
    ours = imported - set(sys.stdlib_module_names) - {"sam_service", "starlette", "pydantic", "pydantic_core"}
    assert ours <= {name.split(".")[0] for name in slim.PACKAGES}
    models = {".".join(name.split(".")[:4]) for path in (CONTEXT / "sam_service").rglob("*.py")
              for name in names_imported(path) if name.startswith("transformers.models.")}
    assert models and models <= set(slim.PACKAGES)


def names_imported(path: Path) -> list[str]:
    """Modules that a module imports, wherever in it."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    return [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names] + [
        str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)]


def test_image_does_not_run_as_root() -> None:
    assert instructions("USER") == [service(BASE)["user"]]
