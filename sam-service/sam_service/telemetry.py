"""What operators measure: counters, gauges and histograms in Prometheus' terms, one set for each application.

Label values come from bounded sets (routes as templates, error codes, states, stages), never from session or object ids, so
nothing grows with use. Times are in seconds, of a monotonic clock. `docs/operations.md` lists every metric.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
PREFIX = "sam_service_"
Stage = Literal["decode", "image", "mask", "render", "store"]
"""Parts of a frame's way: its JPEG is read, the network encodes it and answers with masks, which are enlarged and compressed,
and stored. Some overlap with the next frame's."""
Reading = tuple[str, str, dict[str, float] | float]
"""A gauge that is read when it is asked for: name, help, and its value, or its values by the label's value."""


disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, which nobody reads


class Telemetry:
    """The metrics of one application. Thread-safe."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.model, self.size = "", ""
        self.requests_running = 0
        """HTTP requests under way. Belongs to the event loop."""
        self._reader: _Reader | None = None
        ProcessCollector(registry=self.registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(PREFIX + name, text, labels, registry=self.registry)

        def histogram(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(PREFIX + name, text, labels, registry=self.registry, buckets=BUCKETS)

        self.http_requests = counter("http_requests", "HTTP requests answered", "route", "method", "code")
        self.http_request_seconds = histogram("http_request_seconds", "from a request's head to the last byte of its answer; "
                                              "streams are left out", "route", "method")
        self.http_first_byte_seconds = histogram("http_first_byte_seconds", "from the head of a request that is answered with "
                                                 "a stream to the first byte of the answer", "route", "method")
        self.rejected = counter("rejected", "requests answered with a problem document, by its code", "code")
        self.first_mask_seconds = histogram("time_to_first_mask_seconds", "from a prompt to its mask, and from the start of a "
                                            "propagation to its first frame", "kind")
        self.frame_seconds = histogram("frame_seconds", "a frame's way through the service, by part", "model", "size", "stage")
        self.queue_seconds = histogram("queue_seconds", "time that a step waited for the device")
        self.steps_running = Gauge(PREFIX + "steps_running", "steps on the device now, 0 or 1", registry=self.registry)
        self.build = Info(PREFIX + "build", "version of the service, its model and torch", registry=self.registry)
        self.frames = counter("frames", "frames whose step has run: tracked, or answered to a prompt", "kind")
        self.sessions_opened = counter("sessions_opened", "sessions opened")
        self.sessions_ended = counter("sessions_ended", "sessions ended", "reason")
        self.jobs_finished = counter("jobs_finished", "propagations that came to an end or a pause", "state")
        self.feature_cache_requests = counter("feature_cache_requests", "image features asked of the cache", "result")
        self.live_dropped = counter("live_frames_dropped", "frames of live sessions that a newer one replaced before they were "
                                    "tracked")
        self.live_lag_seconds = histogram("live_lag_seconds", "from a pushed frame's arrival to its masks")
        # Children exist from the start, so that a rate is there before the first event.
        for kind in ("tracked", "prompted"):
            self.frames.labels(kind)
        for reason in ("deleted", "expired"):
            self.sessions_ended.labels(reason)
        for result in ("hit", "miss"):
            self.feature_cache_requests.labels(result)

    def name_model(self, model: str, image_size: int) -> None:
        """Name the model whose frames are timed from now on."""
        self.model, self.size = model, str(image_size)

    @contextlib.contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """Time a part of a frame's way. Failed ones do not count."""
        started = time.perf_counter()
        yield
        self.frame_seconds.labels(self.model, self.size, stage).observe(time.perf_counter() - started)

    def read_when_asked(self, gauges: Callable[[], Iterable[Reading]], counters: Callable[[], Iterable[Reading]]) -> None:
        """Set the metrics that are read at each scrape. A labelled one is given as {"label=value": number}."""
        if self._reader is not None:
            self.registry.unregister(self._reader)
        self._reader = _Reader(gauges, counters)
        self.registry.register(self._reader)


class _Reader(Collector):
    def __init__(self, gauges: Callable[[], Iterable[Reading]], counters: Callable[[], Iterable[Reading]]) -> None:
        self._gauges, self._counters = gauges, counters

    def describe(self) -> Iterable[Metric]:
        """Nothing: the metrics are known once they are read."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Read all."""
        for reader, kind in ((self._gauges, GaugeMetricFamily), (self._counters, CounterMetricFamily)):
            for name, text, values in reader():
                if isinstance(values, dict):
                    label = next(iter(values), "=").partition("=")[0]
                    family = kind(PREFIX + name, text, labels=[label])
                    for labelled, value in values.items():
                        family.add_metric([labelled.partition("=")[2]], value)
                else:
                    family = kind(PREFIX + name, text, value=values)
                yield family
