"""Structured logs: one JSON object a line on stderr, to the last line of the process.

Logs say what happened to how many events and where (topic, partition, offset); never an entity's key, a
field's value or an event's bytes. What libraries log through `logging`, warnings, and errors that end a thread or the
process become lines of the same form; a library that repeats itself is cut to a line in ten seconds.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from types import TracebackType
from typing import Any, TextIO, cast

import structlog
from structlog.tracebacks import ExceptionDictTransformer

from features.core.errors import ConfigurationError

LEVELS = ("debug", "info", "warning", "error")
_REPEAT_S = 10.0


class _Stderr:
    """Standard error as it is when a line is written, not as it was when logging was set up."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


class _Process:
    """Whether this process logs: until a command has set up logging, errors are plain lines for a person."""

    structured = False


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
            # Local variables would show keys and values of events.
            structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(file=cast(TextIO, _Stderr())),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[LibraryLines()], level=logging.WARNING, force=True)
    logging.captureWarnings(True)
    threading.excepthook = _thread_ended
    _Process.structured = True


def structured() -> bool:
    """True once a command has set up logging: then everything on stderr is a log line."""
    return _Process.structured


def reset() -> None:
    """Forget that logging was set up: another command begins in this process."""
    _Process.structured = False


def logger(component: str) -> structlog.typing.FilteringBoundLogger:
    """The log of one component, such as `worker`."""
    bound: structlog.typing.FilteringBoundLogger = structlog.get_logger(part=component)
    return bound


class LibraryLines(logging.Handler):
    """Turns records of `logging` into log lines; of one library, level and subject one line in ten seconds.

    The next line says how many were held back since: `repeated`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, int, str], float] = {}
        self._held: dict[tuple[str, int, str], int] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, or count it."""
        subject = record.args[0] if isinstance(record.args, tuple) and record.args else record.msg
        about = (record.name, record.levelno, str(subject))
        now = time.monotonic()
        if now - self._last.get(about, -_REPEAT_S) < _REPEAT_S:
            self._held[about] = self._held.get(about, 0) + 1
            return
        self._last[about] = now
        facts: dict[str, Any] = {"exc_info": record.exc_info} if record.exc_info else {}
        if repeated := self._held.pop(about, 0):
            facts["repeated"] = repeated
        logger(record.name).log(record.levelno, record.getMessage(), **facts)


def _thread_ended(ended: threading.ExceptHookArgs) -> None:
    name = ended.thread.name if ended.thread is not None else ""
    error = cast(
        tuple[type[BaseException], BaseException, TracebackType | None],
        (ended.exc_type, ended.exc_value, ended.exc_traceback),
    )
    logger("process").error("a thread ended with an error", thread=name, exc_info=error)
