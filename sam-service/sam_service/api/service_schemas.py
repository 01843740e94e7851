"""What is said of the service itself: its health and its models."""

from __future__ import annotations

from pydantic import BaseModel, Field

from sam_service.core.models.registry import DEFAULT_SIZE, SIZES
from sam_service.modes import DEFAULT_MODE, ModeName
from sam_service.schemas import ModelSize


class HealthModel(BaseModel):
    """Which network answers, and where it is from."""

    size: ModelSize
    label: str = Field(description="its name for people", examples=[SIZES[DEFAULT_SIZE].label])
    image_size: int = Field(description="side of the network's input in new sessions, pixels", examples=[1024])
    quantized: bool = Field(description="whether the image encoder runs in INT8", examples=[False])
    source: str = Field(description="where the weights come from", examples=["embedded"])
    parameters: int = Field(description="number of weights", examples=[4630914])
    note: str | None = Field(None, description="said of the embedded model", examples=[None])
    chosen: str | None = Field(None, description="why this size answers, where SAM2_MODEL_SIZE is auto", examples=[None])


class FetchState(BaseModel):
    """Weights on their way, while another model answers."""

    size: ModelSize
    label: str = Field(description="its name for people", examples=["SAM 2.1 tiny"])
    state: str = Field(description="fetching; waiting for the next try; loading, once the weights are here; failed, where they "
                                   "cannot be used", examples=["fetching"])
    done_bytes: int = Field(description="bytes that are here", examples=[52428800])
    total_bytes: int | None = Field(description="bytes of all; null until the hub has told", examples=[156000000])
    error: str | None = Field(description="why the last try failed", examples=[None])
    retry_in_s: float | None = Field(description="seconds to the next try", examples=[None])


class Worker(BaseModel):
    """The thread that owns the device."""

    alive: bool = Field(description="whether it runs", examples=[True])
    busy_s: float = Field(description="seconds that its present step has taken so far", examples=[0.04])
    restarts: int = Field(description="times that it died and was started again", examples=[0])
    process_restarts: int = Field(description="times that the process started anew since a step hung", examples=[0])
    recycled: int = Field(description="times that the process was replaced on purpose (RECYCLE_STEPS, RECYCLE_MEMORY_MB)",
                          examples=[0])


class Health(BaseModel):
    """The state of the service."""

    status: str = Field(description="ok while alive", examples=["ok"])
    version: str = Field(description="of the service", examples=["0.1.0"])
    ready: bool = Field(description="whether the model is loaded and warm", examples=[True])
    device: str | None = Field(description="cpu, cuda or mps; null while loading", examples=["cpu"])
    mps_available: bool = Field(description="whether torch sees Metal", examples=[False])
    apple_silicon: bool = Field(description="whether this is an arm64 Mac", examples=[False])
    cuda_available: bool = Field(description="whether torch sees CUDA", examples=[False])
    model: HealthModel | None = Field(description="null while loading")
    fetching: FetchState | None = Field(description="the model that takes over new sessions once its weights are here")
    error: str | None = Field(description="why the model cannot be had", examples=[None])
    threads: int = Field(description="intra-op threads", examples=[2])
    mode: ModeName = Field(description="the preset in use", examples=[DEFAULT_MODE])
    worker: Worker = Field(description="the thread that owns the device")
    queue: dict[str, int] = Field(description="steps waiting for the device, and how many may",
                                  examples=[{"waiting": 0, "limit": 64}])
    sessions: dict[str, int] = Field(description="open sessions, and how many may be", examples=[{"open": 1, "limit": 32}])
    memory: dict[str, int] = Field(description="bytes: resident, and of image features in memory and on disk",
                                   examples=[{"rss_bytes": 510000000, "feature_cache_bytes": 734000,
                                              "feature_disk_bytes": 0}])


class ModelState(BaseModel):
    """A model size."""

    size: ModelSize
    label: str = Field(description="its name for people", examples=[SIZES[DEFAULT_SIZE].label])
    parameters_m: float = Field(description="millions of weights", examples=[39.0])
    source: str = Field(description="repository on the hub, or embedded", examples=["facebook/sam2.1-hiera-tiny"])
    present: bool = Field(description="whether its weights are on this machine", examples=[False])
    image_size: int = Field(description="side of the network's input, pixels", examples=[1024])
    note: str = Field(description="what to know of it", examples=[""])


class Models(BaseModel):
    """All model sizes."""

    current: str = Field(description="the one that answers", examples=[DEFAULT_SIZE])
    models: list[ModelState] = Field(description="smallest first")
