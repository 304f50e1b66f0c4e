"""Why something may differ from what the replay says: a cause, and the detail that a reader needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum


class Cause(Enum):
    """The causes that a certificate counts by; the values are their names in it."""

    ALTERED = "altered"
    REPEATED = "repeated"
    LOST_RECORD = "lost record"
    AFTER_LOSS = "after a lost record"
    RETENTION_GONE = "retention gone"
    OUT_OF_ORDER = "journal out of order"
    OTHER_OWNER = "other owner's state"
    DEFINITIONS_CHANGED = "definitions changed"
    POLICY_CHANGED = "policy changed"
    POLICY_MEMORY = "policy memory"
    MODEL_GONE = "model gone"
    MODEL_REPLACED = "model replaced"


_TOUCHES = {
    Cause.POLICY_MEMORY: ("threshold", "decision", "alert", "suppressed"),
    Cause.RETENTION_GONE: ("features.", "duplicate", "late", "stamps", "alert", "suppressed"),
    Cause.OTHER_OWNER: ("features.", "stamps"),
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """One cause with its detail."""

    cause: Cause
    detail: str

    @property
    def text(self) -> str:
        """As the certificate says it.

        >>> Explanation(Cause.REPEATED, "it was published before").text
        'repeated: it was published before'
        """
        return f"{self.cause.value}: {self.detail}"

    def explains(self, fields: Mapping[str, object]) -> bool:
        """True when this cause can change at least one of these fields of a decision."""
        touched = _TOUCHES.get(self.cause, ("",))
        return any(name.startswith(touched) for name in fields)


_OTHER_STAMPS = Explanation(Cause.OTHER_OWNER, "read at other stamps than the journal says")
_ALTERED = Explanation(Cause.ALTERED, "nobody who had this state, model and policy wrote it")


def reason_of(reasons: Sequence[Explanation], fields: Mapping[str, object]) -> Explanation:
    """The first known reason that explains the fields that differ, or that the record was altered."""
    for reason in reasons:
        if reason.explains(fields):
            return reason
    return _OTHER_STAMPS if "stamps" in fields else _ALTERED
