"""Recorded events of files or topics, in scoring order and numbered: the same for every process and every run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import polars as pl

from features.core.batch import MicroBatch
from features.core.errors import ConfigurationError
from features.definitions.plan import Plan
from features.offline.merge import batches
from features.offline.recorded import reading, scan
from stream.codecs.decoder import Decoder
from stream.project import build
from stream.replay.backtest.request import BacktestRequest, micros
from stream.settings import config as configs
from stream.settings.tables import Kafka

KAFKA = "kafka:"
_OFFSETS = re.compile(r"(\d+):(\d*)\.\.(\d*)")
Pinned = dict[str, dict[int, tuple[int, int]]]


@dataclass(frozen=True)
class Feed:
    """Batches with the number of their first event, and about how many events there are.

    `rejected` says how many messages so far were no events.
    """

    batches: Iterator[tuple[int, MicroBatch]]
    total: int
    rejected: Callable[[], int] = lambda: 0


@contextmanager
def opened(request: BacktestRequest, plan: Plan) -> Iterator[Feed]:
    """The inputs of a request. A topic's range is fixed by the first run under a working folder."""
    kafka = [text.removeprefix(KAFKA) for text in request.inputs if text.startswith(KAFKA)]
    files = [text for text in request.inputs if not text.startswith(KAFKA)]
    if kafka and files:
        raise ConfigurationError("--input: files and topics cannot be mixed in one run")
    if files:
        yield _files(files, plan)
        return
    with _topics(request, kafka, plan) as feed:
        yield feed


def _files(files: list[str], plan: Plan) -> Feed:
    wrong = [text for text in files if "=" not in text]
    if wrong:
        raise ConfigurationError(f"--input {wrong[0]}: expected SOURCE=FILE or kafka:TOPIC")
    pairs = {source: _pattern(path) for source, _, path in (text.partition("=") for text in files)}
    scans = {source: scan(path) for source, path in pairs.items()}
    with reading(*pairs.values()):
        total = sum(int(frame.select(pl.len()).collect().item()) for frame in scans.values())
    return Feed(_numbered(_read(batches(plan, scans), list(pairs.values()))), total)


def _read(feed: Iterator[MicroBatch], paths: list[str]) -> Iterator[MicroBatch]:
    with reading(*paths):
        yield from feed


def _pattern(path: str) -> str:
    """A folder stands for the Parquet files in it, in the order of their names."""
    if "*" not in path and "://" not in path:
        if not Path(path).exists():
            raise ConfigurationError(f"--input {path}: no such file")
        if Path(path).is_dir():
            return f"{path}/*.parquet"
    return path


def _numbered(feed: Iterator[MicroBatch]) -> Iterator[tuple[int, MicroBatch]]:
    start = 0
    for batch in feed:
        yield start, batch
        start += len(batch)


@contextmanager
def _topics(request: BacktestRequest, kafka: list[str], plan: Plan) -> Iterator[Feed]:
    from stream.kafka.readers.range_reader import RangeReader

    config = configs.load(request.config)
    decoders = build.make_decoders(config, plan)
    asked = dict(text.partition("@")[::2] for text in kafka)
    unknown = [topic for topic in asked if topic not in decoders]
    if unknown:
        raise ConfigurationError(
            f"--input kafka:{unknown[0]}: no source; topics: {', '.join(sorted(decoders))}"
        )
    pins = request.work / "ranges.json"
    pinned: Pinned = msgspec.json.decode(pins.read_bytes(), type=Pinned) if pins.exists() else {}
    if not pinned:
        pinned = _resolved(asked, decoders, config.kafka)
        pins.write_bytes(msgspec.json.encode(pinned))
    reader = RangeReader(config.kafka, {topic: decoders[topic] for topic in asked}, ranges=pinned)
    try:
        yield Feed(_numbered(iter(reader)), reader.total, lambda: reader.rejected)
    finally:
        reader.close()


def _resolved(asked: Mapping[str, str], decoders: Mapping[str, Decoder], kafka: Kafka) -> Pinned:
    """What `kafka:TOPIC`, `kafka:TOPIC@FROM..TO` (message times) or `@0:FROM..TO,...` (offsets) mean now."""
    from stream.kafka.readers.range_reader import RangeReader

    found: Pinned = {}
    for topic, text in asked.items():
        offsets, times = _ranges(topic, text)
        reader = RangeReader(
            kafka,
            {topic: decoders[topic]},
            start_ms=times[0],
            end_ms=times[1],
            ranges=None if offsets is None else {topic: offsets},
        )
        reader.close()
        found[topic] = reader.ranges[topic]
    return found


def _ranges(
    topic: str, text: str
) -> tuple[dict[int, tuple[int | None, int | None]] | None, tuple[int | None, int | None]]:
    """(offsets by partition, message times in milliseconds), of which at most one is there."""
    if not text:
        return None, (None, None)
    parts = [_OFFSETS.fullmatch(part) for part in text.split(",")]
    offsets = {
        int(one[1]): (int(one[2]) if one[2] else None, int(one[3]) if one[3] else None)
        for one in parts
        if one
    }
    if all(parts):
        return offsets, (None, None)
    start, dots, end = text.partition("..")
    if not dots:
        raise ConfigurationError(
            f"--input kafka:{topic}@{text}: expected FROM..TO as times, or PARTITION:FROM..TO as offsets"
        )
    times = [micros(f"--input kafka:{topic}", one or None) for one in (start, end)]
    return None, (_millis(times[0]), _millis(times[1]))


def _millis(time: int | None) -> int | None:
    return None if time is None else time // 1000
