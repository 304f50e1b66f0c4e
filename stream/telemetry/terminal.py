"""Texts on a terminal: whatever came from outside is shown, and none of it is obeyed.

Control characters (C0, DEL, C1), bidirectional marks and the separators of lines become `\\uXXXX`, the form that
JSON has for them, so that a reason, a key or a file's name can neither move the cursor, nor turn the reading order,
nor forge a line.
"""

from __future__ import annotations

import re
import sys

# DEL and C1; bidirectional marks, embeddings, overrides, isolates; separators of lines and paragraphs; surrogates.
_RAW = "\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_CONTROLS = re.compile(f"[\x00-\x1f{_RAW}]")
_CONTROLS_IN_LINES = re.compile(f"[\x00-\x08\x0b-\x1f{_RAW}]")


def escaped(text: object) -> str:
    """One foreign text, for use within a line.

    >>> escaped("card\\x1b[2J\\nalert")
    'card\\\\u001b[2J\\\\u000aalert'
    """
    return _CONTROLS.sub(_escape, str(text))


def echo(text: object = "", *, err: bool = False) -> None:
    """Print lines of the program's own; their line breaks and tabs count, everything else is escaped.

    Foreign texts in it go through `escaped` first where it may hold line breaks. JSON stays the same document.
    """
    line = _CONTROLS_IN_LINES.sub(_escape, str(text))
    stream = sys.stderr if err else sys.stdout
    encoding = stream.encoding or "utf-8"
    stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    stream.flush()


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
