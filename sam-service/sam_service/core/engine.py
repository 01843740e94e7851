"""The engine that the sessions talk to: the model, loaded once, and the worker thread that alone touches it."""

from __future__ import annotations

import copy
import logging
import mmap
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from sam_service.core import weights
from sam_service.core.catalogue import asked_revisions, available_models
from sam_service.core.compiling import compile_encoder
from sam_service.core.device import DevicePolicy, choose_device, is_apple_silicon
from sam_service.core.feature_files import FeatureFiles
from sam_service.core.features import FeatureCache, Frame, to_square, to_square_fast
from sam_service.core.memory_bank import MemoryBank
from sam_service.core.nano import quicken
from sam_service.core.prompts import POSITIVE, PointPrompt, Prompt
from sam_service.core.quantize import quantize_encoder
from sam_service.core.sam2_video_predictor import ObjectOutput, Sam2VideoPredictor
from sam_service.core.sizes import check_image_size
from sam_service.core.worker import Priority, Worker
from sam_service.errors import InvalidInput, ModelUnavailable, NotReady, ServiceError

logger = logging.getLogger(__name__)
T = TypeVar("T")

KEPT_PREDICTORS = 4
WARM_UP = "warm-up"
STEP_BYTES_PER_PIXEL = 384  # of the network's input, at most, for what a step computes with


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What the engine is built from; see `settings.py` for the meaning of each."""

    size: str = "nano"
    checkpoint: str | None = None
    revision: str | None = None
    sha256: str | None = None
    image_size: int | None = None
    device: str = "auto"
    force_cpu: bool = False
    quantize: bool = False
    compile: bool = False
    precision: str = "auto"
    memory_share: float = 1.0
    track_every: int = 1
    threads: int = 1
    cache_bytes: int = 256 << 20
    feature_dir: Path | None = None
    disk_bytes: int = 0
    min_free_bytes: int = 0
    max_queued: int = 64
    max_image_size: int = 1024
    offline: bool = False


@dataclass(frozen=True, slots=True)
class RunningModel:
    """Which network answers."""

    size: str
    image_size: int
    device: str
    quantized: bool
    source: str
    parameters: int


@dataclass(frozen=True, slots=True)
class StepResult:
    """The outputs of a step and how long it took on the device, in milliseconds."""

    outputs: list[ObjectOutput]
    elapsed_ms: float


class Engine:
    """Loads the model on its worker thread and runs steps there. Every public method may be called from any thread."""

    def __init__(self, options: EngineOptions) -> None:
        self.options = options
        self.worker = Worker(max_queued=options.max_queued)
        self.info: RunningModel | None = None
        self.failure: ModelUnavailable | None = None
        self._stopping = False
        self._policy: DevicePolicy | None = None
        self._loaded: weights.LoadedModel | None = None
        self._files: FeatureFiles | None = None
        if options.feature_dir is not None and options.disk_bytes:
            self._files = FeatureFiles(options.feature_dir, options.disk_bytes, min_free_bytes=options.min_free_bytes)
        self._features = FeatureCache(options.cache_bytes, self._files)
        self._predictors: OrderedDict[int, Sam2VideoPredictor] = OrderedDict()

    def start(self) -> None:
        """Start the worker and let it load and warm the model; `info` is set once it is ready, `failure` if it cannot be."""
        if self._files is not None:
            self._files.open()
        self.worker.start()
        self.worker.submit(self._load)

    def refuse(self) -> None:
        """Refuse new work from now on; what is queued is still done."""
        self._stopping = True

    def stop(self, timeout_s: float | None = None) -> None:
        """Finish what is queued, within `timeout_s` seconds, and stop."""
        self.refuse()
        self.worker.stop(timeout_s)
        if self._files is not None:
            self._files.close()

    @property
    def ready(self) -> bool:
        """Whether the model is loaded and warm, the worker runs, and work is taken."""
        return self.info is not None and self.worker.alive and not self._stopping

    @property
    def step_s(self) -> float:
        """Seconds that the step on the device has taken so far; 0 where there is none, or the model is still loading."""
        return self.worker.busy_s if self.info is not None else 0.0

    @property
    def identity(self) -> str:
        """What tells this network's memories from another's."""
        info = self.require_ready()
        return f"{info.size} {info.source} {info.parameters}"

    def require_ready(self) -> RunningModel:
        """The model's description. Raises NotReady while it loads, or the service stops, and ModelUnavailable when it could
        not be had."""
        if self.failure is not None:
            raise copy.copy(self.failure)  # a raised exception collects tracebacks; this one is raised often
        if self._stopping:
            raise NotReady("the service is stopping", code="stopping", retry_after_s=10)
        if self.info is None:
            raise NotReady("the model is still loading; ask GET /ready", retry_after_s=5)
        return self.info

    def step(self, image_size: int, bank: MemoryBank, frame: Frame, *, prompts: Mapping[int, Prompt] | None = None,
             track: Sequence[int] = (), reverse: bool = False, num_frames: int) -> Future[StepResult]:
        """Queue one step (see `Sam2VideoPredictor.step`); prompts go before tracking."""
        def run() -> StepResult:
            require_memory(image_size)
            started = time.perf_counter()
            outputs = self._predictor(image_size).step(
                bank, frame, prompts=prompts, track=track, reverse=reverse, num_frames=num_frames)
            return StepResult(outputs, (time.perf_counter() - started) * 1000)
        self.require_ready()
        return self.worker.submit(run, Priority.CLICK if prompts else Priority.FRAME)

    def tidy(self, run: Callable[[], T]) -> Future[T]:
        """Queue what changes a bank without the network, so that banks have one owner. A full queue does not refuse it."""
        return self.worker.submit(run, bounded=False)

    def holds_features(self, image_size: int, key: str, frame_index: int) -> bool:
        """Whether a frame need not be read again. A hint: the answer may be outdated when the step runs."""
        return self._features.holds((key, frame_index, image_size))

    def forget(self, key: str) -> None:
        """Drop the image features of a session."""
        self.tidy(lambda: self._features.forget(key))

    def check_image_size(self, image_size: int) -> None:
        """Raise InvalidInput for an input size that the model cannot run at, or that this service does not allow."""
        check_image_size(image_size)
        if image_size > max(self.options.max_image_size, self.require_ready().image_size):
            raise InvalidInput(f"image_size is {image_size}, and this service allows at most {self.options.max_image_size} "
                               "(MAX_IMAGE_SIZE)", field="image_size")

    def to_square(self, image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
        """A picture (H, W, 3) as the model wants it: (S, S, 3)."""
        return (to_square_fast if self._is_nano else to_square)(image, side)

    @property
    def looks_at_motion(self) -> bool:
        """Whether a prompted frame is compared with the one beside it: the nano model's are."""
        return self._is_nano

    @property
    def _is_nano(self) -> bool:
        return self.require_ready().size == "nano"

    @property
    def cache_nbytes(self) -> int:
        """Bytes of image features held in memory."""
        return self._features.nbytes

    @property
    def disk_nbytes(self) -> int:
        """Bytes of image features held on disk."""
        return 0 if self._files is None else self._files.nbytes

    @staticmethod
    def hardware() -> dict[str, bool]:
        """What this machine is, for `/health`."""
        return {"mps_available": torch.backends.mps.is_available(), "apple_silicon": is_apple_silicon(),
                "cuda_available": torch.cuda.is_available()}

    def models(self) -> list[dict[str, Any]]:
        """Every model size and whether its weights are on this machine; asks no network."""
        return [asdict(model) for model in available_models(revisions=asked_revisions(
            self.options.size, self.options.checkpoint, self.options.revision))]

    def _load(self) -> None:
        options = self.options
        try:
            torch.set_num_threads(options.threads)
            self._policy = choose_device(options.device, force_cpu=options.force_cpu, precision=options.precision)
            self._loaded = weights.load_model(options.size, checkpoint=options.checkpoint, image_size=options.image_size,
                                              offline=options.offline, revision=options.revision, sha256=options.sha256,
                                              progress=logger.info)
            quicken(self._loaded.model, self._policy.device)
            quantized = options.quantize and quantize_encoder(self._loaded.model, self._policy.device) > 0
            if options.compile:
                if quantized:
                    raise ModelUnavailable("SAM2_COMPILE and SAM2_QUANTIZE exclude each other; unset one of the two")
                compile_encoder(self._loaded.model, self._policy.device)
            started = time.perf_counter()
            _warm_up(self._predictor(self._loaded.image_size))
            self._features.forget(WARM_UP)
        except ServiceError as error:
            logger.error("no model (size %s, checkpoint %s): %s", options.size, options.checkpoint, error.message)
            self.failure = error if isinstance(error, ModelUnavailable) else ModelUnavailable(error.message)
        except Exception as error:
            logger.exception("the model could not be loaded")
            hint = "; SAM2_COMPILE is set, which needs a C++ compiler on this machine" if options.compile else ""
            self.failure = ModelUnavailable(
                f"the model could not be loaded: {type(error).__name__}; see the service's log{hint}")
        else:
            loaded = self._loaded
            self.info = RunningModel(loaded.size, loaded.image_size, str(self._policy.device), quantized, loaded.source,
                                     loaded.parameters)
            logger.info("model %s (%s, %.1f M parameters) at %d px on %s (%s), %d threads; two warm-up steps took %.2f s",
                        loaded.size, loaded.source, loaded.parameters / 1e6, loaded.image_size, self._policy.device,
                        self._policy.reason, options.threads, time.perf_counter() - started)

    def _predictor(self, image_size: int) -> Sam2VideoPredictor:
        """The predictor for an input size. All share the weights and the feature cache; a few that were used last are kept."""
        assert self._loaded is not None and self._policy is not None
        if image_size not in self._predictors:
            loaded = self._loaded
            model = loaded.model if image_size == loaded.image_size else weights.resized(loaded, image_size)
            self._predictors[image_size] = Sam2VideoPredictor(
                model, self._policy, features=self._features, hints=loaded.hints, memory_share=self.options.memory_share,
                track_every=self.options.track_every)
        self._predictors.move_to_end(image_size)
        while len(self._predictors) > KEPT_PREDICTORS:
            self._predictors.popitem(last=False)
        return self._predictors[image_size]


def require_memory(image_size: int) -> None:
    """Raise MemoryError where a step could not have the memory that it needs for a while.

    Where an allocation fails inside oneDNN it may end the process (seen in a transposed convolution of torch 2.13), so it is
    asked for beforehand: reserved, not touched, and given back.
    """
    try:
        mmap.mmap(-1, STEP_BYTES_PER_PIXEL * image_size**2).close()
    except OSError as error:
        raise MemoryError(f"there is no memory for a step at {image_size} pixels") from error


def _warm_up(predictor: Sam2VideoPredictor) -> None:
    """One click and one tracked frame on grey, so that the first client does not pay for lazy initialisation."""
    size = predictor.image_size
    pixels = np.full((size, size, 3), 128, np.uint8)
    bank = MemoryBank(WARM_UP)
    centre = PointPrompt(np.full((1, 2), size / 2, np.float32), np.full(1, POSITIVE, np.int32))
    predictor.step(bank, Frame(0, size, size, lambda: pixels), prompts={1: centre}, num_frames=2)
    predictor.step(bank, Frame(1, size, size, lambda: pixels), track=[1], num_frames=2)
