"""Telemetry for the operator: structured log lines and Prometheus metrics, without payloads, keys, tokens or scores."""

import io
import logging
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TextIO, cast

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from he_infer import __version__
from he_infer.server.workers.pool import WorkerPool

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


_SHARED: list[structlog.typing.Processor] = [
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
]
_JSON = structlog.processors.JSONRenderer(sort_keys=True)


def configure_logging() -> None:
    """Log one JSON object a line to standard error, for this package and for the libraries that it uses."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _JSON,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


class _LossyText(io.TextIOBase):
    """Drops what cannot be written: a full disk costs lines of the log and no answers.

    The standard library's handlers do the same; the metrics go on counting.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def access_log() -> structlog.typing.FilteringBoundLogger:
    """Make the logger of request lines: of the same form, at half the cost of the standard library's logging."""
    logger: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
        structlog.WriteLogger(cast("TextIO", _LossyText(sys.stderr))),
        processors=[*_SHARED, _JSON],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    return logger


class Metrics:
    """The server's own registry; nothing global, so that two servers in one process do not mix.

    Args:
        pool: the pool whose queue and workers are reported.
        data_dir: the data folder, whose free space is reported.
        engine: HE library and wire format.
    """

    def __init__(self, pool: WorkerPool, data_dir: Path, engine: str) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        build = Gauge("he_infer_build", "Always 1.", ("version", "seal"), registry=self._registry)
        build.labels(__version__, engine).set(1)
        free = Gauge("he_infer_data_free_bytes", "Room left where the data folder lies.", registry=self._registry)
        free.set_function(lambda: float(shutil.disk_usage(data_dir).free))
        self._requests = Counter(
            "he_infer_requests", "Requests by route and outcome.", ("route", "outcome"), registry=self._registry
        )
        self._seconds = Histogram(
            "he_infer_request_seconds",
            "Time to answer, by route.",
            ("route",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        bodies = Counter(
            "he_infer_body_bytes", "Bytes of bodies, by direction.", ("direction",), registry=self._registry
        )
        self._received, self._sent = bodies.labels("received"), bodies.labels("sent")
        self._series = cache(self._find_series)  # a look-up by labels costs as much as all the counting
        self._registry.register(_PoolCollector(pool))

    def answered(self, route: str, outcome: str, seconds: float, received: int, sent: int) -> None:
        """Count one answered request. `route` is a template, `outcome` a code: the number of series is bounded."""
        requests, took = self._series(route, outcome)
        requests.inc()
        took.observe(seconds)
        self._received.inc(received)
        self._sent.inc(sent)

    def _find_series(self, route: str, outcome: str) -> tuple[Counter, Histogram]:
        return self._requests.labels(route, outcome), self._seconds.labels(route)

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class Exchanges:
    """Notes every exchange, in the metrics and as a line of the log.

    Args:
        metrics: where it is counted.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._log = access_log()

    def note(
        self,
        *,
        request_id: str,
        client: str | None,
        method: str,
        route: str,
        status: int,
        outcome: str,
        seconds: float,
        received: int,
        sent: int,
    ) -> None:
        """Note one exchange that has ended."""
        self._metrics.answered(route, outcome, seconds, received, sent)
        self._log.info(
            "request",
            request_id=request_id,
            client=client,
            method=method,
            route=route,
            status=status,
            outcome=outcome,
            ms=round(seconds * 1000, 1),
            received=received,
            sent=sent,
        )


class _PoolCollector(Collector):
    """Reads the pool's own counters when asked."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("he_infer_queue_waiting", "Tasks that wait for a worker.", value=self._pool.waiting)
        yield GaugeMetricFamily("he_infer_tasks_running", "Tasks in workers.", value=self._pool.running)
        yield GaugeMetricFamily("he_infer_workers", "Worker processes.", value=len(self._pool.pids))
        yield CounterMetricFamily("he_infer_worker_deaths", "Workers that ended unasked.", value=self._pool.deaths)
        yield CounterMetricFamily(
            "he_infer_worker_overdue", "Workers killed at a time limit.", value=self._pool.overdue
        )
