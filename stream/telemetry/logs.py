"""Structured logs: one JSON object a line on stderr.

Logs say what happened to how many events and where (topic, partition, offset); never an entity's key, a
field's value or an event's bytes.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO, cast

import structlog

from features.core.errors import ConfigurationError

LEVELS = ("debug", "info", "warning", "error")


class _Stderr:
    """Standard error as it is when a line is written, not as it was when logging was set up."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def configure(level: str = "info", *, human: bool = False) -> None:
    """Set up logging once a process; `human` prints coloured lines in place of JSON."""
    if level not in LEVELS:
        raise ConfigurationError(f"log level {level!r}: expected one of {', '.join(LEVELS)}")
    renderer: Any = structlog.dev.ConsoleRenderer() if human else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(file=cast(TextIO, _Stderr())),
        cache_logger_on_first_use=True,
    )


def logger(component: str) -> structlog.typing.FilteringBoundLogger:
    """The log of one component, such as `worker`."""
    bound: structlog.typing.FilteringBoundLogger = structlog.get_logger(part=component)
    return bound
