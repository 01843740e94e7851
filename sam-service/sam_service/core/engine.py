"""The engine that the sessions talk to: the model, loaded once, and the worker thread that alone touches it."""

from __future__ import annotations

import contextlib
import copy
import logging
import mmap
import time
from collections.abc import Callable, Container, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from sam_service.core.build import build_predictor, use_threads
from sam_service.core.device import DevicePolicy, choose_device, is_apple_silicon
from sam_service.core.feature_files import FeatureFiles
from sam_service.core.features import FeatureCache
from sam_service.core.frames import ClipFrame, FrameSource, Image
from sam_service.core.memory.bank import MemoryBank
from sam_service.core.memory.selection import frames_selected, neighbour_of
from sam_service.core.models import registry
from sam_service.core.models.catalogue import asked_revisions, available_models
from sam_service.core.models.choice import choose
from sam_service.core.models.family import Checkpoint
from sam_service.core.models.fetching import Fetching, must_fetch
from sam_service.core.predictor import ObjectOutput, VideoPredictor
from sam_service.core.prompts import POSITIVE, PointPrompt, Prompt
from sam_service.core.served import RunningModel, ServedModel
from sam_service.core.speedups import Speedups
from sam_service.core.worker import Priority, Worker
from sam_service.errors import InvalidInput, ModelUnavailable, NotReady, ServiceError
from sam_service.telemetry import Telemetry

logger = logging.getLogger(__name__)
T = TypeVar("T")

WARM_UP = "warm-up"
STEP_BYTES_PER_PIXEL = 384  # of the network's input, at most, for what a step computes with


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What the engine is built from; see `settings.py` for the meaning of each.

    input_side: the side of the network's input for new sessions, from the model's own, both in pixels. embedded_meanwhile:
    whether the embedded model answers as long as the weights have to be fetched.
    """

    size: str = registry.DEFAULT_SIZE
    checkpoint: Checkpoint = Checkpoint(progress=logger.info)
    image_size: int | None = None
    device: str = "auto"
    force_cpu: bool = False
    precision: str = "auto"
    speedups: Speedups = Speedups()
    track_every: int = 1
    threads: int = 1
    input_side: Callable[[int], int] = lambda own: own
    cache_bytes: int = 256 << 20
    feature_dir: Path | None = None
    disk_bytes: int = 0
    min_free_bytes: int = 0
    max_queued: int = 64
    max_image_size: int = 1024
    embedded_meanwhile: bool = False


@dataclass(frozen=True, slots=True)
class StepResult:
    """The outputs of a step and how long it took on the device, in milliseconds."""

    outputs: list[ObjectOutput]
    elapsed_ms: float


class Engine:
    """Loads the model on its worker thread and runs steps there. Every public method may be called from any thread."""

    def __init__(self, options: EngineOptions, telemetry: Telemetry | None = None) -> None:
        self.options = options
        self.threads, self.input_side = options.threads, options.input_side
        self.telemetry = telemetry or Telemetry()
        self.worker = Worker(max_queued=options.max_queued)
        self.info: RunningModel | None = None
        self.failure: ModelUnavailable | None = None
        self.policy: DevicePolicy | None = None
        self.steps_done = 0
        self._stopping = False
        self._models: dict[str, ServedModel] = {}
        self._current: ServedModel | None = None
        self.fetching: Fetching | None = None
        """The weights of the model that is to take over, while another one answers."""
        self._files: FeatureFiles | None = None
        if options.feature_dir is not None and options.disk_bytes:
            self._files = FeatureFiles(options.feature_dir, options.disk_bytes, min_free_bytes=options.min_free_bytes)
        self._features = FeatureCache(options.cache_bytes, self._files, self.telemetry)

    def start(self) -> None:
        """Start the worker and let it load and warm the model; `info` is set once it is ready, `failure` if it cannot be."""
        if self._files is not None:
            self._files.open()
        self.worker.start()
        self.worker.submit(self._load)

    def refuse(self) -> None:
        """Refuse new work from now on; what is queued is still done, and so is what it needs of the engine."""
        self._stopping = True

    def stop(self, timeout_s: float | None = None) -> None:
        """Finish what is queued, within `timeout_s` seconds, and stop."""
        self.refuse()
        if self.fetching is not None:
            self.fetching.stop()
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
        """What tells the memories of the network that new sessions get from another's."""
        return self.require_model().identity

    def serves(self, identity: str) -> bool:
        """Whether the network that made a session's memories is loaded."""
        return identity in self._models

    def model_of(self, identity: str) -> RunningModel | None:
        """The description of a session's network; of the one that new sessions get where that is not loaded."""
        found = self._models.get(identity)
        return self.info if found is None else found.info

    def require_ready(self) -> RunningModel:
        """The model's description, for new work. Raises as `require_model`, and NotReady while the service stops."""
        if self._stopping and self.failure is None:
            raise NotReady("the service is stopping", code="stopping", retry_after_s=10)
        return self.require_model()

    def require_model(self) -> RunningModel:
        """The model's description, for work that was let in. Raises NotReady while it loads, and ModelUnavailable when it could
        not be had."""
        if self.failure is not None:
            raise copy.copy(self.failure)  # a raised exception collects tracebacks; this one is raised often
        if self.info is None:
            raise NotReady("the model is still loading; ask GET /ready", retry_after_s=5)
        return self.info

    def step(self, image_size: int, bank: MemoryBank, frame: FrameSource, *, prompts: Mapping[int, Prompt] | None = None,
             track: Sequence[int] = (), reverse: bool = False, num_frames: int) -> Future[StepResult]:
        """Queue one step (see `VideoPredictor.step`); prompts go before tracking."""
        asked = time.perf_counter()

        def run() -> StepResult:
            require_memory(image_size)
            started = time.perf_counter()
            self.telemetry.queue_seconds.observe(started - asked)
            with self.telemetry.steps_running.track_inprogress():
                outputs = self._served(bank.model).predictor(image_size).step(
                    bank, frame, prompts=prompts, track=track, reverse=reverse, num_frames=num_frames)
            self.telemetry.frames.labels("prompted" if prompts else "tracked").inc()
            self.steps_done += 1
            return StepResult(outputs, (time.perf_counter() - started) * 1000)
        self.require_ready()
        return self.worker.submit(run, Priority.CLICK if prompts else Priority.FRAME)

    @property
    def usual_image_size(self) -> int:
        """Side in pixels of the network's input in a session that asks for none. Raises as `require_model`."""
        return self.input_side(self.require_model().image_size)

    def use(self, threads: int, cache_bytes: int, input_side: Callable[[int], int]) -> None:
        """Compute with so many threads and keep so many bytes of image features in memory, once the step under way has run;
        new sessions get that input size."""
        self.threads, self.input_side = threads, input_side

        def change() -> None:
            use_threads(threads)
            self._features.limit(cache_bytes)
        self.run_on_device(change)

    def run_on_device(self, run: Callable[[], T]) -> Future[T]:
        """Queue what changes a bank without the network, so that banks have one owner. A full queue does not refuse it."""
        return self.worker.submit(run, bounded=False)

    def frames_read(self, image_size: int, key: str, frames: Sequence[int]) -> list[int]:
        """Those of the frames that a step wants whose pixels it has to read, since their features are not cached.

        A hint for reading ahead: where features are dropped before the step runs, the step reads that frame itself.
        """
        return [at for at in frames if not self._features.holds((key, at, image_size))]

    def read_ahead(self, image_size: int, bank: MemoryBank, index: int, pool: Executor, *, prompted: Sequence[int] = (),
                   track: Sequence[int] = (), reverse: bool = False, num_frames: int) -> list[Future[Any]]:
        """Read on `pool` what the step of a frame needs from disk, beside pixels: features, and memories outside the window.

        The futures are to be waited for before the step is queued, and not asked for their results: what could not be read is
        dealt with by the step.
        """
        layout, every = self._served(bank.model).network.layout, self.options.track_every

        def selected(backward: bool) -> list[int]:
            return frames_selected(index, layout, reverse=backward, num_frames=num_frames, every=every)

        features = self._features.prefetch((bank.key, index, image_size), pool)
        reads: list[Future[Any]] = [] if features is None else [features]
        for object_id in {*prompted, *track} & bank.objects.keys():
            memory = bank.objects[object_id]
            direction = memory.directions.get(index) if object_id in prompted else reverse
            reads += memory.prefetch(pool, [index] if direction is None else [index, *selected(direction)])
        return reads

    def tracking_reads_neighbour(self, index: int, *, reverse: bool, following: bool) -> bool:
        """Whether tracking on to a frame reads the frame before it, too. following: that frame has just been tracked."""
        every, neighbour = self.options.track_every, neighbour_of(index, reverse=reverse)
        if index % every == 0:
            return False
        return not (following and neighbour % every)  # optical flow from the neighbour remembers where it carried masks

    def forget(self, key: str, frames: Container[int] | None = None) -> None:
        """Drop the image features of a session, and give the device's memory back that they held; or those of some of its
        frames."""
        def drop() -> None:
            self._features.forget(key, frames)
            if frames is None and self.policy is not None:
                self.policy.release()
        self.run_on_device(drop)

    def check_image_size(self, image_size: int) -> None:
        """Raise InvalidInput for an input size that the model cannot run at, or that this service does not allow."""
        info = self.require_ready()
        registry.family_of(info.size).check_image_size(image_size)
        if image_size > max(self.options.max_image_size, info.image_size):
            raise InvalidInput(f"image_size is {image_size}, and this service allows at most {self.options.max_image_size} "
                               "(MAX_IMAGE_SIZE)", field="image_size")

    def resize(self, image: Image, image_size: int, model: str) -> Image:
        """A picture (H, W, 3) as a session's network wants it. model: its identity."""
        return self._served(model).network.resize(image, image_size)

    def _served(self, identity: str) -> ServedModel:
        """A session's network, or the one that new sessions get where that is not loaded. Raises NotReady while it loads; it is
        there until the process ends, also while the service stops."""
        found = self._models.get(identity) or self._current
        if found is None:
            raise NotReady("the model is still loading; ask GET /ready", retry_after_s=5)
        return found

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
        checkpoint = self.options.checkpoint
        return [asdict(model) for model in available_models(revisions=asked_revisions(
            self.options.size, checkpoint.place, checkpoint.revision))]

    def _load(self) -> None:
        """Load the model that was asked for, or the embedded one as long as its weights have to be fetched."""
        try:
            use_threads(self.threads)
            options = self.options
            policy, chosen = choose_device(options.device, force_cpu=options.force_cpu, precision=options.precision), None
            if options.size == registry.AUTO:
                options, chosen = self._choose(policy)
            if options.embedded_meanwhile and must_fetch(registry.SIZES[options.size], options.checkpoint):
                meanwhile = replace(options, size=registry.DEFAULT_SIZE, checkpoint=Checkpoint(), speedups=Speedups())
                self._bring_up(meanwhile, policy, None)
                self.fetching = Fetching(registry.SIZES[options.size], options.checkpoint,
                                         lambda: self._submit_change(options, policy, chosen))
                self.fetching.start()
                logger.info("%s answers until the weights of %s are fetched; sessions keep their model", registry.DEFAULT_SIZE,
                            options.size)
            else:
                self._bring_up(options, policy, chosen)
        except ServiceError as error:
            logger.error("no model (size %s, checkpoint %s): %s", self.options.size, self.options.checkpoint.place,
                         error.message)
            self.failure = error if isinstance(error, ModelUnavailable) else ModelUnavailable(error.message)
        except Exception as error:
            logger.exception("the model could not be loaded")
            self.failure = ModelUnavailable(self._why(error))

    def _submit_change(self, options: EngineOptions, policy: DevicePolicy, chosen: str | None) -> None:
        with contextlib.suppress(NotReady):  # the service stops
            self.run_on_device(lambda: self._change_over(options, policy, chosen))

    def _change_over(self, options: EngineOptions, policy: DevicePolicy, chosen: str | None) -> None:
        """Load the model whose weights have come, for the sessions that are opened from now on."""
        assert self.fetching is not None
        try:
            self._bring_up(options, policy, chosen)
        except Exception as error:
            logger.exception("the weights of %s are here and cannot be used; %s goes on answering", options.size,
                             registry.DEFAULT_SIZE)
            self.fetching.fail(error.message if isinstance(error, ServiceError) else self._why(error))
        else:
            self.fetching = None

    def _why(self, error: Exception) -> str:
        hint = "; SAM2_COMPILE is set, which needs a C++ compiler on this machine" if self.options.speedups.compile else ""
        return f"the model could not be loaded: {type(error).__name__}; see the service's log{hint}"

    def _bring_up(self, options: EngineOptions, policy: DevicePolicy, chosen: str | None) -> None:
        """Load a network and run two steps; new sessions get it then."""
        predictor = build_predictor(options.size, options.checkpoint, image_size=options.image_size, policy=policy,
                                    speedups=options.speedups, features=self._features, track_every=options.track_every,
                                    telemetry=self.telemetry)
        size, info, started = registry.SIZES[options.size], predictor.network.info, time.perf_counter()
        served = ServedModel(predictor, RunningModel(
            info.size, info.image_size, str(policy.device), predictor.quantized, info.source, info.parameters, size.label,
            registry.advice(size.name), chosen), policy)
        side = self.input_side(info.image_size)
        self.telemetry.name_model(info.size, side)
        _warm_up(served.predictor(side))
        self._features.forget(WARM_UP)
        self._models[served.info.identity] = self._current = served
        self.policy, self.info = policy, served.info
        logger.info("model %s (%s, %.1f M parameters) at %d px on %s (%s), %d threads; two warm-up steps took %.2f s",
                    info.size, info.source, info.parameters / 1e6, side, policy.device, policy.reason, self.threads,
                    time.perf_counter() - started)

    def _choose(self, policy: DevicePolicy) -> tuple[EngineOptions, str]:
        """The options with the size that is advised for this machine, and why it is."""
        options = self.options
        present = {model.size for model in available_models() if model.present}
        choice = choose(policy.device.type, self.threads, present, offline=options.checkpoint.offline)
        logger.info("SAM2_MODEL_SIZE=%s: %s", registry.AUTO, choice.reason)
        self.options = replace(options, size=choice.size, image_size=options.image_size or choice.image_size)
        return self.options, choice.reason


def require_memory(image_size: int) -> None:
    """Raise MemoryError where a step could not have the memory that it needs for a while.

    Where an allocation fails inside oneDNN it may end the process (seen in a transposed convolution of torch 2.13), so it is
    asked for beforehand: reserved, not touched, and given back.
    """
    try:
        mmap.mmap(-1, STEP_BYTES_PER_PIXEL * image_size**2).close()
    except OSError as error:
        raise MemoryError(f"there is no memory for a step at {image_size} pixels") from error


def _warm_up(predictor: VideoPredictor) -> None:
    """One click and one tracked frame on grey, so that the first client does not pay for lazy initialisation."""
    size = predictor.network.image_size
    bank = MemoryBank(WARM_UP)
    centre = PointPrompt(np.full((1, 2), size / 2, np.float32), np.full(1, POSITIVE, np.int32))
    frames = [ClipFrame(index, (size, size), lambda _: np.full((size, size, 3), 128, np.uint8)) for index in range(2)]
    predictor.step(bank, frames[0], prompts={1: centre}, num_frames=2)
    predictor.step(bank, frames[1], track=[1], num_frames=2)
