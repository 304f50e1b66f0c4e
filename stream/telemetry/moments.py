"""Named moments of the protocol at which chaos tests end or stop the process.

`RISKSTREAM_FAULT=NAME[:COUNT[:SIGNAL]]` sends SIGNAL (KILL by default; STOP makes a zombie) to this process the
COUNT-th time it passes the point. Without the variable a point costs one comparison.
"""

from __future__ import annotations

import os
import signal

POINTS = (
    "after_consume",
    "after_fold",
    "before_send_offsets",
    "after_send_offsets",
    "before_commit",
    "after_commit",
    "before_flush",
    "after_flush",
    "in_recover",
    "in_replay",
)


class _Fault:
    def __init__(self, text: str) -> None:
        name, _, rest = text.partition(":")
        count, _, number = rest.partition(":")
        if name not in POINTS:
            raise ValueError(f"RISKSTREAM_FAULT: expected one of {', '.join(POINTS)}, got {name!r}")
        self.name = name
        self.left = int(count or 1)
        self.signal = signal.Signals[f"SIG{number or 'KILL'}"]

    def passed(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.signal)


_TEXT = os.environ.get("RISKSTREAM_FAULT", "")
_FAULT = _Fault(_TEXT) if _TEXT else None


def point(name: str) -> None:
    """Pass a moment where a crash is interesting."""
    if _FAULT is not None and _FAULT.name == name:
        _FAULT.passed()
