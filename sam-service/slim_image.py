"""Take out of a virtual environment what the service never uses, while its image is built. Run by the Dockerfile only.

First everything that the service imports is imported, once, so that the bytecode of those modules is there and of no others,
and so that it is known which of the library's models are wanted. Removing one that is wanted would end the first import of it
with an error; `make image-check` loads every family in the finished image.
"""

from __future__ import annotations

import importlib
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("av", "cv2", "fastapi", "fastapi_offline", "h11", "httpx", "huggingface_hub", "numpy", "pathvalidate", "PIL.Image",
            "prometheus_client", "psutil", "pycocotools.mask", "pydantic_settings", "python_multipart", "safetensors.torch",
            "torch", "transformers", "transformers.models.edgetam.modeling_edgetam",
            "transformers.models.edgetam_video.modeling_edgetam_video", "transformers.models.sam2.modeling_sam2",
            "transformers.models.sam2_video.modeling_sam2_video", "uvicorn", "websockets")
UNUSED = ("torch/bin/*_*est*", "torch/bin/*Test*", "torch/bin/test_*", "torch/bin/protoc*", "torch/bin/*.p*", "torch/test",
          "torch/include", "torch/share", "torch/lib/*_test.so", "caffe2", "**/*.a", "numpy/**/tests", "sympy/**/tests",
          "networkx/**/tests", "sympy/**/benchmarks", "pip", "pip-*", "setuptools", "setuptools-*", "pkg_resources",
          "_distutils_hack", "distutils-precedence.pth")
"""Test programs, C++ headers, static libraries, the packages' own tests, and what only installing needs."""

MODELS = "transformers/models"
ALWAYS = {"auto", "__pycache__"}


def main() -> None:
    """Import, then remove; prints how much went."""
    site = Path(sysconfig.get_path("purelib"))
    for name in PACKAGES:
        importlib.import_module(name)
    _build_models()
    before = _nbytes(site)
    for path in sorted({path for pattern in UNUSED for path in site.glob(pattern)} | set(_unused_models(site))):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    print(f"{before >> 20} MiB of packages became {_nbytes(site) >> 20} MiB")


def _build_models() -> None:
    """Build each network that the service runs, without weights, so that its modules are imported."""
    import torch
    from transformers import EdgeTamVideoConfig, EdgeTamVideoModel, Sam2VideoConfig, Sam2VideoModel
    with torch.device("meta"):
        Sam2VideoModel(Sam2VideoConfig())
        # Its own image encoder needs a package more; the service builds that by itself.
        EdgeTamVideoModel(EdgeTamVideoConfig.from_dict({"vision_config": {"model_type": "sam2_vision_model"}}))


def _unused_models(site: Path) -> Iterator[Path]:
    used = {name.split(".")[2] for name in sys.modules if name.startswith("transformers.models.")} | ALWAYS
    return (path for path in (site / MODELS).iterdir() if path.is_dir() and path.name not in used)


def _nbytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


if __name__ == "__main__":
    main()
