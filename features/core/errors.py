"""Every error that riskstream raises, sorted by what the loop does about it.

RiskstreamError
|-- InvalidEvent          dead-letter the event, go on
|-- RetriableError        abort the unit of work, back off, recover, same batch again
|-- FencedError           drop the work, rejoin the group (exit code 3 when it cannot)
`-- FatalError            stop; nothing was committed
    `-- ConfigurationError    wrong use or environment: exit code 2
        `-- DefinitionError   a definition is wrong; says where
"""

from __future__ import annotations


class RiskstreamError(Exception):
    """Base of all errors raised on purpose."""


class InvalidEvent(RiskstreamError):
    """One event cannot be used.

    `event` names it (`transactions[3]@18234`), `path` the field (`$.amount`), `reason` what was
    expected and what came; `str()` joins the three.
    """

    def __init__(self, event: str, path: str, reason: str) -> None:
        super().__init__(f"{event} {path}: {reason}")
        self.event = event
        self.path = path
        self.reason = reason


class RetriableError(RiskstreamError):
    """The unit of work failed for a reason that passes; recover and do it again."""


class FencedError(RiskstreamError):
    """Another worker owns what this one was working on."""


class FatalError(RiskstreamError):
    """Going on would be wrong; the message says what to do."""


class ConfigurationError(FatalError):
    """A setting, a file or a server is not as it must be; names the setting and the fix."""


class DefinitionError(ConfigurationError):
    """A definition is wrong.

    `path` leads to it, such as `views.card_spend.aggregations[2].where`.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason
