"""Gathers all views of one (entity, source) pair into a Group: scans, columns, conditions, features."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import nan

from features.core.durations import format_duration, parse_duration
from features.core.errors import DefinitionError
from features.definitions.checks.sources import key_columns
from features.definitions.naming import feature_name
from features.definitions.plan import Feature, Group, Scan
from features.definitions.spec import Aggregation, Definitions, FeatureView, Function, Source

MOST_CONDITIONS = 32
_ZERO_WHEN_EMPTY = ("count", "sum", "distinct")


@dataclass(frozen=True)
class _ScanKey:
    value: int
    token: int
    where: int
    delay: int
    include_current: bool


@dataclass(eq=False)
class _ScanDraft:
    key: _ScanKey
    windows: set[int] = field(default_factory=set)
    functions: set[Function] = field(default_factory=set)


@dataclass(kw_only=True)
class _FeatureDraft:
    view: str
    name: str
    aggregation: Aggregation
    window: int
    scan: _ScanDraft
    of_scan: _ScanDraft | None
    text: bool
    definition: str


class GroupBuilder:
    """Collects views; then `group()` and `features(view)` give the result."""

    def __init__(self, index: int, definitions: Definitions, source: Source, entity: str) -> None:
        self._index = index
        self._definitions = definitions
        self._source = source
        self._entity = next(declared for declared in definitions.entities if declared.name == entity)
        self._columns = {column.name: column for column in source.fields}
        self._values: list[str] = [] if source.labels is None else [source.labels.value]
        self._tokens: list[str] = []
        self._kept_texts: set[str] = set()
        self._conditions: list[str] = []
        self._scans: dict[_ScanKey, _ScanDraft] = {}
        self._drafts: list[_FeatureDraft] = []

    def add(self, view: FeatureView) -> None:
        """Take in a checked view."""
        for number, aggregation in enumerate(view.aggregations):
            path = f"views.{view.name}.aggregations[{number}]"
            column = self._columns.get(aggregation.column or "")
            is_string = column is not None and column.dtype == "string"
            text = is_string and aggregation.function in ("first", "last")
            if text:
                self._kept_texts.add(aggregation.column or "")
            scan, of_scan = self._scans_of(view, aggregation, path)
            for window in aggregation.windows or view.windows:
                length = parse_duration(window, path)
                draft = _FeatureDraft(
                    view=view.name,
                    name=feature_name(view, aggregation, window),
                    aggregation=aggregation,
                    window=length,
                    scan=scan,
                    of_scan=of_scan,
                    text=text,
                    definition=_definition(view, aggregation, window),
                )
                scan.windows.add(length)
                if of_scan is not None:
                    of_scan.windows.add(length)
                self._drafts.append(draft)

    def group(self) -> Group:
        """The finished group; call it after the last `add`."""
        self._share_counts()
        self._align_shares()
        keys = key_columns(self._source, self._entity) or ()
        scans = tuple(_scan(draft) for draft in self._scans.values())
        return Group(
            index=self._index,
            entity=self._entity.name,
            source=self._source.name,
            key_columns=keys,
            value_columns=tuple(self._values),
            token_columns=tuple(self._tokens),
            text_tokens=tuple(name in self._kept_texts for name in self._tokens),
            conditions=tuple(self._conditions),
            scans=scans,
            horizon=max(scan.delay + scan.windows[-1] for scan in scans),
            lateness=parse_duration(self._definitions.lateness, "lateness"),
            capacity=self._definitions.capacity,
            partition_local=self._source.key in keys,
            label=self._source.labels is not None,
        )

    def features(self, view: str) -> list[Feature]:
        """The features of one view, in the order of its aggregations and windows."""
        order = {id(draft): number for number, draft in enumerate(self._scans.values())}
        return [
            Feature(
                name=draft.name,
                function=draft.aggregation.function,
                group=self._index,
                scan=order[id(draft.scan)],
                of_scan=-1 if draft.of_scan is None else order[id(draft.of_scan)],
                window=sorted(draft.scan.windows).index(draft.window),
                fill=_fill(draft.aggregation),
                text=draft.text,
                view=draft.view,
                definition=draft.definition,
            )
            for draft in self._drafts
            if draft.view == view
        ]

    def _scans_of(
        self, view: FeatureView, aggregation: Aggregation, path: str
    ) -> tuple[_ScanDraft, _ScanDraft | None]:
        delay = parse_duration(aggregation.delay or view.delay, path)
        current = view.include_current if aggregation.include_current is None else aggregation.include_current
        current = current and delay == 0 and self._source.scored and aggregation.function != "elapsed"
        where = aggregation.where or view.where
        value, token = self._columns_of(aggregation)
        key = _ScanKey(value, token, self._condition(where, path), delay, current)
        scan = self._scans.setdefault(key, _ScanDraft(key))
        scan.functions.add(aggregation.function)
        if aggregation.function != "share":
            return scan, None
        both = f"({where}) AND ({aggregation.of})" if where else str(aggregation.of)
        of_key = _ScanKey(-1, -1, self._condition(both, path), delay, current)
        of_scan = self._scans.setdefault(of_key, _ScanDraft(of_key))
        of_scan.functions.add("share")
        return scan, of_scan

    def _columns_of(self, aggregation: Aggregation) -> tuple[int, int]:
        if aggregation.function == "rate":
            return 0, -1
        if aggregation.column is None:
            return -1, -1
        if aggregation.function == "distinct" or self._columns[aggregation.column].dtype == "string":
            return -1, _index_in(self._tokens, aggregation.column)
        return _index_in(self._values, aggregation.column), -1

    def _condition(self, sql: str | None, path: str) -> int:
        if sql is None:
            return -1
        number = _index_in(self._conditions, sql.strip())
        if number >= MOST_CONDITIONS:
            group = f"`{self._source.name}` by `{self._entity.name}`"
            raise DefinitionError(path, f"{group} has over {MOST_CONDITIONS} different conditions")
        return number

    def _share_counts(self) -> None:
        """Let plain counts be read off a scan whose column is never null: one scan instead of two."""
        for plain in list(self._scans.values()):
            host = next((s for s in self._scans.values() if self._counts_like(s, plain)), None)
            counts = plain.functions <= {"count", "share"} and plain.key.value < 0 and plain.key.token < 0
            if host is None or not counts:
                continue
            host.windows |= plain.windows
            for draft in self._drafts:
                draft.scan = host if draft.scan is plain else draft.scan
                draft.of_scan = host if draft.of_scan is plain else draft.of_scan
            del self._scans[plain.key]

    def _counts_like(self, host: _ScanDraft, plain: _ScanDraft) -> bool:
        if host.key.value < 0 or not self._columns[self._values[host.key.value]].required:
            return False
        a, b = host.key, plain.key
        return (a.where, a.delay, a.include_current) == (b.where, b.delay, b.include_current)

    def _align_shares(self) -> None:
        """A share reads the same window of two scans, so both get the same windows."""
        pairs = [(draft.scan, draft.of_scan) for draft in self._drafts if draft.of_scan is not None]
        changed = True
        while changed:
            changed = False
            for scan, of_scan in pairs:
                if scan.windows != of_scan.windows:
                    scan.windows |= of_scan.windows
                    of_scan.windows |= scan.windows
                    changed = True


def _scan(draft: _ScanDraft) -> Scan:
    key = draft.key
    return Scan(
        value=key.value,
        token=key.token,
        where=key.where,
        delay=key.delay,
        include_current=key.include_current,
        windows=tuple(sorted(draft.windows)),
        needs_squares="std" in draft.functions,
        needs_extremes=bool(draft.functions & {"min", "max"}),
        needs_ends=bool(draft.functions & {"first", "last", "elapsed"}),
        needs_distinct="distinct" in draft.functions,
    )


def _index_in(names: list[str], name: str) -> int:
    if name not in names:
        names.append(name)
    return names.index(name)


def _fill(aggregation: Aggregation) -> float:
    if aggregation.fill is not None:
        return aggregation.fill
    return 0.0 if aggregation.function in _ZERO_WHEN_EMPTY else nan


def _definition(view: FeatureView, aggregation: Aggregation, window: str) -> str:
    subject = aggregation.of if aggregation.function == "share" else aggregation.column
    words = [f"{aggregation.function}({subject or view.source}) by {view.entity}, {window}"]
    delay = parse_duration(aggregation.delay or view.delay, "delay")
    if delay:
        words.append(f"ending {format_duration(delay)} before")
    where = aggregation.where or view.where
    if where:
        words.append(f"where {where.strip()}")
    current = view.include_current if aggregation.include_current is None else aggregation.include_current
    if not current and not delay:
        words.append("without the current event")
    return ", ".join(words)
