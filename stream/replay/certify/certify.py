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
from stream.codecs.messages import PartitionId as Place
from stream.codecs.messages import RawMessage
from stream.kafka.readers.offsets import committed
from stream.kafka.readers.topic_reader import TopicReader
from stream.project import build
from stream.replay.certify import units
from stream.replay.certify.certificate import VERSION, Certificate, Difference, Range
from stream.replay.certify.comparing import name_of
from stream.replay.certify.inputs import Inputs
from stream.replay.certify.library import Library
from stream.replay.certify.published import Published
from stream.replay.certify.replay import Findings, Material, Replay
from stream.replay.certify.units import Journal, Unit
from stream.settings import config as configs
from stream.settings.config import Config

Progress = Callable[[int, int], None]
_MARGIN_MS = 60_000
_NO_BEGINNING = "retention gone: the journal does not reach back to where this session began"
_NO_HEAD = "lost record: the journal lacks the first unit of work of this session"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to certify. Times of scoring, ISO 8601, UTC where they name no zone; `policies` are older policy files."""

    config: Path
    start: str | None = None
    end: str | None = None
    policies: Sequence[Path] = ()


def certify(request: Request, progress: Progress | None = None) -> Certificate:
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
    def __init__(self, config: Config, request: Request, opened: ExitStack) -> None:
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
        since = min((unit.scored for unit in self._chosen), default=0) // 1000 - _MARGIN_MS
        topics = self._config.topics
        decisions = self._published("decision", topics.decisions, since) if topics.decisions else None
        alerts = self._published("alert", topics.alerts, since)
        reader = self._open(self._decoders)
        material = Material(
            plan=self._plan,
            shards=self._config.worker.shards,
            library=Library(self._config, self._plan, self._request.policies),
            profiles=self._profiles(),
            inputs=Inputs(reader, self._decoders, self._journal.origins),
            journal=self._journal,
            spans=self._spans,
            gone=_gone(reader, self._journal),
            decisions=decisions,
            alerts=alerts,
            in_range=self._in_range,
        )
        replay = Replay(material, self._findings)
        replay.run(lambda: progress(material.inputs.done, reader.total))
        self._settle_letters(replay.letters, since, reader.lows)
        outputs = [one for one in (decisions, alerts) if one is not None]
        for one in outputs:
            one.finish()
        return self._certificate(outputs)

    def _read_journal(self) -> Journal:
        topics = {name: source.topic for name, source in self._plan.sources.items()}
        found = units.read(_all(self._open([self._config.topics.journal])), topics, self._end)
        for cause, some in ((_NO_BEGINNING, found.orphans), (_NO_HEAD, found.headless)):
            for unit in filter(self._in_range, some):
                self._findings.report(
                    Difference(what="unreplayable", record="journal", place=unit.at, cause=cause)
                )
        return found

    def _open(self, topics: Iterable[str], since_ms: int | None = None) -> TopicReader:
        reader = TopicReader(self._config.kafka, topics, since_ms)
        self._opened.callback(reader.close)
        return reader

    def _published(self, kind: str, topic: str, since_ms: int) -> Published:
        return Published(kind, self._open([topic], since_ms), self._spans, self._findings.report)

    def _profiles(self) -> ProfileTable | None:
        if not any(reader.profiles for reader in self._plan.readers.values()):
            return None
        store = build.make_store(self._config)
        self._opened.callback(store.close)
        return build.make_profiles(self._plan, store)

    def _in_range(self, unit: Unit) -> bool:
        return (self._start is None or unit.scored >= self._start) and (
            self._end is None or unit.scored < self._end
        )

    def _settle_letters(
        self, expected: set[tuple[Place, int]], since_ms: int, lows: Mapping[Place, int]
    ) -> None:
        """Every event that does not decode must be among the dead letters, and no other."""
        found: set[tuple[Place, int]] = set()
        for message in _all(self._open([self._config.topics.dead_letters], since_ms)):
            letter = dlq.from_record(message.key, message.value, message.headers)
            if letter is None:
                continue
            place = (letter.topic, letter.partition)
            first, end = self._spans.get(place, (0, 0))
            if max(first, lows.get(place, 0)) <= letter.offset < end:
                found.add((place, letter.offset))
        for what, places in (("missing", expected - found), ("unknown", found - expected)):
            for place, offset in sorted(places):
                cause = (
                    "lost record: never published, or deleted"
                    if what == "missing"
                    else "altered: this event does decode"
                )
                self._findings.report(
                    Difference(what=what, record="dead letter", place=name_of(place, offset), cause=cause)
                )

    def _certificate(self, outputs: Sequence[Published]) -> Certificate:
        found, counts = self._findings, self._findings.counts
        by_kind = {one.kind: one for one in outputs}
        counts.alerts_compared = by_kind["alert"].compared
        if "decision" in by_kind:
            counts.decisions_compared = by_kind["decision"].compared
        entries = [unit.entry for unit in self._chosen]
        models = {model for entry in entries for model in entry.models.values()}
        return Certificate(
            version=VERSION,
            made=datetime.now(UTC).isoformat(timespec="seconds"),
            verdict="differs" if found.different else "agrees",
            project=self._config.project.name,
            group=self._config.kafka.group_id,
            software=tuple(sorted({entry.software for entry in entries})),
            compared=tuple(by_kind),
            range=Range(
                start=_text(self._start),
                end=_text(self._end),
                places={f"{topic}[{number}]": span for (topic, number), span in sorted(self._spans.items())},
            ),
            counts=counts,
            hashes={kind: one.digest for kind, one in by_kind.items()},
            plan=self._plan.fingerprint,
            policies=tuple(sorted({entry.policy for entry in entries})),
            models=tuple(sorted(models, key=lambda model: (model.name, model.version, model.sha256))),
            workers=tuple(sorted({entry.worker for entry in entries})),
            different=found.different,
            causes=dict(found.causes.most_common()),
            differences=tuple(found.shown),
        )


def _all(reader: TopicReader) -> Iterator[RawMessage]:
    while not reader.done:
        yield from reader.poll()


def _spans(
    journal: Journal, chosen: Sequence[Unit], upto: Mapping[Place, int]
) -> dict[Place, tuple[int, int]]:
    """Offsets [first, end) of each partition that the units of the range account for."""
    mine = set(map(id, chosen))
    before: dict[Place, int] = {}
    for unit in (*journal.orphans, *(one for one in journal.all() if id(one) not in mine)):
        for place, (_, end) in unit.spans.items():
            before[place] = max(before.get(place, 0), end)
    spans: dict[Place, tuple[int, int]] = {}
    for unit in chosen:
        told = {place: (first, first) for place, first in unit.holdings.items()}
        for place, (first, end) in (*told.items(), *unit.spans.items()):
            known = spans.get(place, (first, end))
            spans[place] = (min(known[0], first), max(known[1], end))
    out = {}
    for place, (first, end) in spans.items():
        out[place] = (before.get(place, first), max(end, upto.get(place, 0)))
    return out


def _gone(reader: TopicReader, journal: Journal) -> dict[Place, str]:
    """Partitions whose log no longer holds all that state was made of."""
    return {
        place: f"retention gone: {place[0]}[{place[1]}] begins at {low}, its state at {journal.origins[place]}"
        for place, low in reader.lows.items()
        if low > journal.origins.get(place, low)
    }


def _micros(option: str, text: str | None) -> int | None:
    return None if text is None else option_us(option, text)


def _text(micros: int | None) -> str | None:
    return None if micros is None else datetime.fromtimestamp(micros / 1e6, UTC).isoformat()
