"""The command `riskstream certify`: the journal's units of work, scored again and compared with what was published."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from features.core.errors import ConfigurationError
from features.core.times import option_us
from features.profiles.joins import ProfileTable
from stream.codecs import dead_letters as dlq
from stream.codecs.messages import PartitionId, RawMessage, partition_text, record_text
from stream.kafka.readers.offsets import committed
from stream.kafka.readers.topic_reader import TopicReader
from stream.project import build
from stream.replay.certify import units
from stream.replay.certify.inputs import Inputs
from stream.replay.certify.library import Library
from stream.replay.certify.published import Published
from stream.replay.certify.replay import Replay, ReplayInputs
from stream.replay.certify.report.causes import Cause, Explanation
from stream.replay.certify.report.certificate import VERSION, Certificate, Difference, Range
from stream.replay.certify.report.findings import Findings
from stream.replay.certify.units import JournalContents, JournaledBatch
from stream.settings import config as configs
from stream.settings.config import Config

Progress = Callable[[int, int], None]
_MARGIN_MS = 60_000
_NO_BEGINNING = Explanation(
    Cause.RETENTION_GONE, "the journal does not reach back to where this session began"
)
_NO_HEAD = Explanation(Cause.LOST_RECORD, "the journal lacks the first unit of work of this session")
_NO_LETTER = Explanation(Cause.LOST_RECORD, "never published, or deleted")
_DECODES = Explanation(Cause.ALTERED, "this event does decode")


@dataclass(frozen=True, kw_only=True)
class CertifyRequest:
    """What to certify. Times of scoring, ISO 8601, UTC where they name no zone; `policies` are older policy files."""

    config: Path
    start: str | None = None
    end: str | None = None
    policies: Sequence[Path] = ()


def certify(request: CertifyRequest, progress: Progress | None = None) -> Certificate:
    """Replay and compare. Blocks until done; reads only, and joins no consumer group."""
    config = configs.load(request.config)
    if not config.topics.journal:
        raise ConfigurationError(
            f"{config.path}: topics.journal is not set: without a journal nobody knows in which order events were "
            "scored. Fix: name a topic; what is scored from then on can be certified"
        )
    with ExitStack() as opened:
        return _Certifier(config, request, opened).run(progress or (lambda _done, _total: None))


class _Certifier:
    def __init__(self, config: Config, request: CertifyRequest, opened: ExitStack) -> None:
        self._config = config
        self._request = request
        self._start = _micros("--from", request.start)
        self._end = _micros("--to", request.end)
        self._opened = opened
        self._plan = build.make_plan(config)
        self._decoders = build.make_decoders(config, self._plan)
        self._findings = Findings()
        upto = committed(config, self._decoders)
        self._journal = self._read_journal()
        self._chosen = [unit for unit in self._journal.all() if self._in_range(unit)]
        self._spans = _spans(self._journal, self._chosen, upto if self._end is None else {})

    def run(self, progress: Progress) -> Certificate:
        """Everything, start to end."""
        library = Library(self._config, self._plan, self._request.policies)
        library.check_policies(unit.entry.policy for unit in self._chosen)
        since = min((unit.scored for unit in self._chosen), default=0) // 1000 - _MARGIN_MS
        topics = self._config.topics
        decisions = self._published("decision", topics.decisions, since) if topics.decisions else None
        alerts = self._published("alert", topics.alerts, since)
        reader = self._open(self._decoders)
        inputs = ReplayInputs(
            plan=self._plan,
            shards=self._config.worker.shards,
            library=library,
            profiles=self._profiles(),
            inputs=Inputs(reader, self._decoders, self._journal.origins),
            journal=self._journal,
            spans=self._spans,
            gone=_gone(reader, self._journal),
            decisions=decisions,
            alerts=alerts,
            in_range=self._in_range,
        )
        replay = Replay(inputs, self._findings)
        replay.run(lambda: progress(inputs.inputs.done, reader.total))
        self._compare_letters(replay.letters, since, reader.lows)
        outputs = [published for published in (decisions, alerts) if published is not None]
        for published in outputs:
            published.finish()
        return self._certificate(outputs)

    def _read_journal(self) -> JournalContents:
        topics = {name: source.topic for name, source in self._plan.sources.items()}
        journal = units.read(_all(self._open([self._config.topics.journal])), topics, self._end)
        for reason, lost in ((_NO_BEGINNING, journal.orphans), (_NO_HEAD, journal.headless)):
            for unit in filter(self._in_range, lost):
                difference = Difference(what="unreplayable", record="journal", place=unit.at)
                self._findings.report(difference, reason)
        return journal

    def _open(self, topics: Iterable[str], since_ms: int | None = None) -> TopicReader:
        reader = TopicReader(self._config.kafka, topics, since_ms)
        self._opened.callback(reader.close)
        return reader

    def _published(self, kind: str, topic: str, since_ms: int) -> Published:
        return Published(kind, self._open([topic], since_ms), self._spans, self._findings)

    def _profiles(self) -> ProfileTable | None:
        if not any(reader.profiles for reader in self._plan.readers.values()):
            return None
        store = build.make_store(self._config)
        self._opened.callback(store.close)
        return build.make_profiles(self._plan, store)

    def _in_range(self, unit: JournaledBatch) -> bool:
        return (self._start is None or unit.scored >= self._start) and (
            self._end is None or unit.scored < self._end
        )

    def _compare_letters(
        self, expected: set[tuple[PartitionId, int]], since_ms: int, lows: Mapping[PartitionId, int]
    ) -> None:
        """Every event that does not decode must be among the dead letters, and no other."""
        published: set[tuple[PartitionId, int]] = set()
        for message in _all(self._open([self._config.topics.dead_letters], since_ms)):
            letter = dlq.from_record(message.key, message.value, message.headers)
            if letter is None:
                continue
            partition = (letter.topic, letter.partition)
            first, end = self._spans.get(partition, (0, 0))
            if max(first, lows.get(partition, 0)) <= letter.offset < end:
                published.add((partition, letter.offset))
        for what, reason, records in (
            ("missing", _NO_LETTER, expected - published),
            ("unknown", _DECODES, published - expected),
        ):
            for partition, offset in sorted(records):
                place = record_text(*partition, offset)
                self._findings.report(Difference(what=what, record="dead letter", place=place), reason)

    def _range(self) -> Range:
        places = {partition_text(*partition): span for partition, span in sorted(self._spans.items())}
        return Range(start=_text(self._start), end=_text(self._end), places=places)

    def _certificate(self, outputs: Sequence[Published]) -> Certificate:
        findings, counts = self._findings, self._findings.counts
        by_kind = {published.kind: published for published in outputs}
        counts.alerts_compared = by_kind["alert"].compared
        if "decision" in by_kind:
            counts.decisions_compared = by_kind["decision"].compared
        entries = [unit.entry for unit in self._chosen]
        models = {model for entry in entries for model in entry.models.values()}
        return Certificate(
            version=VERSION,
            made=datetime.now(UTC).isoformat(timespec="seconds"),
            verdict="differs" if findings.different else "agrees",
            project=self._config.project.name,
            group=self._config.kafka.group_id,
            software=tuple(sorted({entry.software for entry in entries})),
            compared=tuple(by_kind),
            range=self._range(),
            counts=counts,
            hashes={kind: published.digest for kind, published in by_kind.items()},
            plan=self._plan.fingerprint,
            policies=tuple(sorted({entry.policy for entry in entries})),
            models=tuple(sorted(models, key=lambda model: (model.name, model.version, model.sha256))),
            workers=tuple(sorted({entry.worker for entry in entries})),
            different=findings.different,
            causes=dict(findings.causes.most_common()),
            differences=tuple(findings.shown),
        )


def _all(reader: TopicReader) -> Iterator[RawMessage]:
    while not reader.done:
        yield from reader.poll()


def _spans(
    journal: JournalContents, chosen: Sequence[JournaledBatch], upto: Mapping[PartitionId, int]
) -> dict[PartitionId, tuple[int, int]]:
    """Offsets [first, end) of each partition that the units of the range account for."""
    in_range = set(map(id, chosen))
    before: dict[PartitionId, int] = {}
    for unit in (*journal.orphans, *(unit for unit in journal.all() if id(unit) not in in_range)):
        for partition, (_, end) in unit.spans.items():
            before[partition] = max(before.get(partition, 0), end)
    spans: dict[PartitionId, tuple[int, int]] = {}
    for unit in chosen:
        held = {partition: (first, first) for partition, first in unit.holdings.items()}
        for partition, (first, end) in (*held.items(), *unit.spans.items()):
            known = spans.get(partition, (first, end))
            spans[partition] = (min(known[0], first), max(known[1], end))
    return {
        partition: (before.get(partition, first), max(end, upto.get(partition, 0)))
        for partition, (first, end) in spans.items()
    }


def _gone(reader: TopicReader, journal: JournalContents) -> dict[PartitionId, Explanation]:
    """Partitions whose log no longer holds all that their state was computed from."""
    gone: dict[PartitionId, Explanation] = {}
    for partition, low in reader.lows.items():
        origin = journal.origins.get(partition, low)
        if low > origin:
            detail = f"{partition_text(*partition)} begins at {low}, its state at {origin}"
            gone[partition] = Explanation(Cause.RETENTION_GONE, detail)
    return gone


def _micros(option: str, text: str | None) -> int | None:
    return None if text is None else option_us(option, text)


def _text(micros: int | None) -> str | None:
    return None if micros is None else datetime.fromtimestamp(micros / 1e6, UTC).isoformat()
