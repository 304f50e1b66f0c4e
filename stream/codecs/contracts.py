"""What riskstream publishes: alerts, decisions and dead letters.

Field names, types and meanings are a promise to subscribers: docs/reference/contracts.md and the JSON Schemas
beside it are generated from this file. A field is added freely; changing or removing one raises
`SCHEMA_VERSION`. Floats are written so that reading them gives the same bits; a missing value is null.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from msgspec import Meta, Struct

SCHEMA_VERSION = 1

DecisionWord = Literal["approve", "review", "decline"]
SeverityWord = Literal["none", "low", "medium", "high", "critical"]


class DecidedBy(Struct, frozen=True, kw_only=True, gc=False):
    """The model that gave the score. A source without a model is scored by `none`, with score 0."""

    name: str
    version: str
    sha256: str


class RankedReason(Struct, frozen=True, kw_only=True, gc=False):
    """Why, strongest first.

    `contribution` is the change of the score when the feature is set to its baseline; rules give reasons with
    the rule's name as code, an empty feature and contribution 0.
    """

    code: str
    feature: str
    value: float | str | None
    baseline: float | str | None
    contribution: float
    text: str


class EventPlace(Struct, frozen=True, kw_only=True, gc=False):
    """Where the event stands in Kafka."""

    topic: str
    partition: int
    offset: int


class Times(Struct, frozen=True, kw_only=True, gc=False):
    """Microseconds since 1970 UTC: when it happened, reached Kafka, and was scored."""

    event: int
    received: int
    scored: int


class Decision(Struct, frozen=True, kw_only=True, gc=False):
    """One scored event, whether it alerts or not."""

    alert_id: Annotated[
        str, Meta(description="Same for the same event and mode, so a redelivery is recognised.")
    ]
    schema_version: Annotated[int, Meta(description="Version of this contract.")]
    mode: Annotated[
        Literal["live", "shadow", "replay"],
        Meta(description="live: act on it; shadow: a challenger's opinion; replay: a backtest."),
    ]
    event_id: Annotated[str, Meta(description="The event's own id.")]
    event_type: Annotated[
        str, Meta(description="The event's type, or the source's name where events have none.")
    ]
    event_time: Annotated[str, Meta(description="When it happened: RFC 3339, UTC, microseconds.")]
    entity_keys: Annotated[
        dict[str, str | None],
        Meta(description="Key of each entity; parts of a composite key are joined with `|`."),
    ]
    case_key: Annotated[str, Meta(description="Groups the alerts of one case: primary entity and its key.")]
    decision: DecisionWord
    score: Annotated[
        float | None,
        Meta(description="Probability of the bad outcome, 0 to 1; null with the flag `score_invalid`."),
    ]
    threshold: Annotated[
        float | None, Meta(description="The score from which this event would have been reviewed.")
    ]
    severity: SeverityWord
    reasons: Annotated[tuple[RankedReason, ...], Meta(description="Ranked reasons; only on alerts.")]
    rules: Annotated[tuple[str, ...], Meta(description="Names of the policy rules that held.")]
    model: DecidedBy
    plan: Annotated[str, Meta(description="Fingerprint of the feature definitions.")]
    policy: Annotated[str, Meta(description="Hash of the policy.")]
    features: Annotated[
        dict[str, float | str | None], Meta(description="Every feature as the model saw it; null is missing.")
    ]
    flags: Annotated[
        tuple[str, ...],
        Meta(description="What was missing, stale or invalid: `profile_missing:applicant`, `score_invalid`."),
    ]
    duplicate: Annotated[bool, Meta(description="The primary entity has already seen this event id.")]
    late: Annotated[bool, Meta(description="A newer event of the entity came first.")]
    stamps: Annotated[
        dict[str, dict[str, dict[str, int]]],
        Meta(
            description="For entities spread over partitions: entity, source, partition: offset read up to."
        ),
    ]
    source: EventPlace
    times: Times
    exposure: Annotated[float | None, Meta(description="Money at stake: the source's amount column.")]
    alert: Annotated[bool, Meta(description="Published to the alerts topic.")]
    suppressed: Annotated[bool, Meta(description="Would have alerted, but the policy suppressed it.")]
    released: Annotated[bool, Meta(description="A decline let through at random, to learn its outcome.")]


class Alert(Decision, frozen=True, kw_only=True, gc=False):
    """A decision that a person should look at: review or decline, not suppressed."""


class DeadLetter(Struct, frozen=True, kw_only=True, gc=False):
    """An event that could not be used, with everything needed to mend and re-drive it.

    On the dead-letter topic key, value and headers are the original ones; the rest is in added headers
    `riskstream-source`, `-stage`, `-path`, `-reason`, `-topic`, `-partition`, `-offset`, `-timestamp`.
    """

    source: Annotated[str, Meta(description="Source whose topic it came from.")]
    stage: Annotated[str, Meta(description="What failed: decode or score.")]
    path: Annotated[str, Meta(description="Where in the value, as in `$.card.number`.")]
    reason: Annotated[str, Meta(description="What was expected and what came.")]
    topic: str
    partition: int
    offset: int
    timestamp_ms: Annotated[int, Meta(description="Kafka timestamp; -1 where there was none.")]
    key: Annotated[bytes | None, Meta(description="Original key, base64 in JSON.")]
    value: Annotated[bytes | None, Meta(description="Original bytes, base64 in JSON.")]
    headers: Annotated[list[tuple[str, bytes | None]], Meta(description="Original headers.")]

    @property
    def place(self) -> str:
        """Names the message without its content: safe to log."""
        return f"{self.topic}[{self.partition}]@{self.offset}"

    @property
    def error(self) -> str:
        """The whole message, such as `transactions[3]@18234 $.amount: expected number, got "12,0"`."""
        return f"{self.place} {self.path}: {self.reason}"


def alert_id(source: str, event_id: str, mode: str) -> str:
    """The identity of a decision, the same on every door and after every redelivery.

    >>> alert_id("transactions", "t-1", "live")
    '94533279258997246b0e7d7e31930036'
    """
    return hashlib.sha256(f"{source}\0{event_id}\0{mode}".encode()).hexdigest()[:32]
