"""Every option of the service, once. Built by the doors (`cli.py`, the application factory's caller), never on import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from sam_service.core.models.registry import AUTO, DEFAULT_SIZE, SIZES
from sam_service.modes import DEFAULT_MODE, OPTIONS, Knobs, ModeName, with_options


def _size(name: str) -> str:
    if name not in SIZES and name != AUTO:
        raise ValueError(f"there is no model size {name!r}; there are {', '.join(SIZES)}, and {AUTO}")
    return name


ModelSize = Annotated[str, AfterValidator(_size), Field(json_schema_extra={"enum": [*SIZES, AUTO]})]
Sha256 = Annotated[str, Field(pattern="^[0-9a-fA-F]{64}$")]

DOTENV = ".env"


def check_dotenv() -> None:
    """Raise UnicodeDecodeError where `.env` is UTF-16 that could be taken for UTF-8: its options would be passed over."""
    path = Path(DOTENV)
    data = path.read_bytes() if path.is_file() else b""
    at = data.find(0)
    if at >= 0:
        raise UnicodeDecodeError("utf-8", data, at, at + 1, "a NUL character, as in UTF-16,")


class Settings(BaseSettings):
    """Read from the environment and from a `.env` file; the names are those of the fields, in capitals."""

    model_config = SettingsConfigDict(env_file=DOTENV, env_file_encoding="utf-8-sig", extra="ignore", env_ignore_empty=True)

    sam2_model_size: ModelSize = Field(DEFAULT_SIZE, description=f"{DEFAULT_SIZE} is embedded; the others are fetched on first "
                                                                 f"start; {AUTO}: the one that is advised for this machine")
    sam2_checkpoint: str | None = Field(None, description="Meta .pt file, Hugging Face folder or hub name, instead of the "
                                                          "size's own source")
    sam2_revision: Annotated[str, Field(min_length=1)] | None = Field(None, description="commit, tag or branch of the hub's "
                                                                                        "repository; its branch main if unset")
    sam2_checkpoint_sha256: Sha256 | None = Field(None, description="what the weights' file has to have, checked before it is "
                                                                    "read")
    sam2_image_size: int | None = Field(None, description="side of the network's input, pixels; the model's own if unset")
    sam2_device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    sam2_demo_force_cpu_device: bool = Field(False, description="use the CPU whatever else there is")
    sam2_mode: ModeName = Field(DEFAULT_MODE, description="preset of frame size, input size, threads, features kept, precision "
                                                          "and device; an option that is set goes before it")
    sam2_meanwhile: Literal["wait", "embedded"] = Field("wait", description="what answers while weights are fetched: nothing, "
                                                                            f"or {DEFAULT_SIZE}, which its sessions keep")
    sam2_quantize: bool = Field(False, description="INT8 dynamic quantization of the image encoder's Linear layers, CPU only")
    sam2_compile: bool = Field(False, description="compile the image encoder at the start, CUDA and CPU")
    sam2_precision: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto: float32 on a CPU, mixed on GPUs; "
                                                                                       "bfloat16 is an error without it")
    sam2_memory_share: float = Field(1.0, gt=0, le=1, description="share of old memory maps that is attended to; below 1, such "
                                                                  "as 0.05, faster and not exact")
    sam2_track_every: int = Field(1, ge=1, le=32, description="the network runs on every n-th frame; optical flow carries the "
                                                              "masks between; above 1 faster and not exact")
    torch_num_threads: Annotated[int, Field(ge=1)] | None = Field(None, description="intra-op threads; the CPU quota if unset")
    torch_num_interop_threads: Annotated[int, Field(ge=1)] = 1

    max_video_frames: int = Field(10_000, ge=1, description="frames of a session; longer clips are cut and say so")
    max_frame_dimension: int = Field(1920, ge=64, description="longer side of a session's frames, pixels")
    frame_jpeg_quality: int = Field(85, ge=1, le=100)
    max_upload_mb: int = Field(500, ge=1, description="largest upload, MiB")
    max_sessions: int = Field(32, ge=1)
    max_objects: int = Field(64, ge=1, description="objects of a session")
    max_prompts: int = Field(256, ge=1, description="frames on which an object has prompts")
    max_image_size: int = Field(1024, ge=128, description="largest input size, pixels, that a client may ask for")
    session_ttl_s: float = Field(3600.0, gt=0, description="a session expires after this many seconds without use")
    live_ttl_s: float = Field(300.0, gt=0, description="the same for a live session, whose frames are pushed")
    max_connections: int = Field(512, ge=8, description="clients that may be connected; at most a quarter of the file "
                                                        "descriptors that the process may have")
    max_queued_steps: int = Field(64, ge=1, description="steps that may wait for the device")
    feature_cache_mb: int = Field(64, ge=0, description="image features kept in memory, MiB")
    feature_disk_mb: int = Field(4096, ge=0, description="image features kept on disk, MiB, so that a second propagation "
                                                         "encodes no frame again; 0: none")
    memory_spill_mb: int = Field(4096, ge=0, description="tracking memory kept on disk for each session, MiB")
    min_free_disk_mb: int = Field(256, ge=0, description="with less disk space left, MiB, new work is refused")
    max_memory_mb: Annotated[int, Field(ge=64)] | None = Field(None, description="holding more memory than this, MiB, the "
                                                                                 "service refuses new work; unset: no limit")
    step_timeout_s: float = Field(900.0, gt=0, description="a step of the network that takes longer is taken for hung, and the "
                                                           "process starts anew")
    recycle_steps: Annotated[int, Field(ge=1)] | None = Field(None, description="after so many steps the process starts anew; "
                                                                                "unset: never")
    recycle_memory_mb: Annotated[int, Field(ge=64)] | None = Field(None, description="holding more memory than this, MiB, the "
                                                                                     "process starts anew; unset: never")
    shutdown_timeout_s: float = Field(10.0, gt=0, description="time that a stop gives to running frames and open answers")

    sam2_api_key: SecretStr | None = Field(None, description="if set, every call needs it but health, readiness and the API's "
                                                             "own description")
    sam2_data_dir: Path = Field(Path("data"), description="sessions live here")
    sam2_video_dir: Path | None = Field(None, description="folder that `video_path` may name files of; unset refuses paths")
    cors_origins: str = Field("", description="origins of pages that may call the service, with commas between; `*` for all")
    allowed_hosts: str = Field("", description="names in the Host header that are answered, with commas between; unset: any, "
                                               "without a key this machine's own and those of local networks, on loopback "
                                               "this machine's own")
    root_path: str = Field("", pattern=r"^(/[A-Za-z0-9._~-]+)*/?$", description="prefix under which a proxy offers the "
                                                                                "service, such as /sam")
    host: str = "127.0.0.1"
    port: int = Field(8002, ge=0, le=65535)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] = Field("console", description="console: lines for people; json: an object a line")
    hf_hub_offline: bool = Field(False, description="never ask the hub, use what is cached")

    def knobs(self, mode: ModeName | None = None) -> Knobs:
        """What a mode, or the one that is set, comes to with the options that are set."""
        given = {option: getattr(self, option.lower()) for option in OPTIONS.values()
                 if option.lower() in self.model_fields_set}
        if self.sam2_demo_force_cpu_device:
            given["SAM2_DEVICE"] = "cpu"
        return with_options(mode or self.sam2_mode, given)

    @property
    def fixed_knobs(self) -> list[str]:
        """The knobs whose options are set, so that no mode changes them."""
        fixed = [knob for knob, option in OPTIONS.items() if option.lower() in self.model_fields_set]
        return fixed + (["device"] if self.sam2_demo_force_cpu_device and "device" not in fixed else [])

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.sam2_model_size == AUTO and (self.sam2_checkpoint or self.sam2_revision or self.sam2_checkpoint_sha256):
            raise ValueError(f"SAM2_MODEL_SIZE={AUTO} does not go with SAM2_CHECKPOINT, SAM2_REVISION or "
                             "SAM2_CHECKPOINT_SHA256, which belong to one size: name that size")
        return self
