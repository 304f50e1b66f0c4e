"""Reads files that people edit: whatever mark their editor puts first, and one line for what cannot be read.

    EF BB BF      UTF-8             FF FE, FE FF                   UTF-16
    no mark       UTF-8             FF FE 00 00, 00 00 FE FF       UTF-32

Every error names the file, the line and what to do.
"""

from __future__ import annotations

import codecs
from pathlib import Path

from features.core.errors import ConfigurationError

# The marks of UTF-32 begin with those of UTF-16, so they are looked for first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_FIX = "save the file as UTF-8"


def read_bytes(path: str | Path) -> bytes:
    """The file as it is; ConfigurationError where it is not there, no file, or may not be read."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"{path}: cannot be read: {reason}") from None


def read_text(path: str | Path) -> str:
    """The file's text without its mark; line ends stay as they are."""
    return decode(read_bytes(path), path)


def decode(data: bytes, path: str | Path) -> str:
    """The text of a file's bytes, without its mark. `path` is for messages.

    >>> decode(b"\\xff\\xfea\\x00b\\x00", "list.txt")
    'ab'
    """
    mark, encoding = encoding_of(data)
    body = data[len(mark) :]
    try:
        text = body.decode(encoding)
    except UnicodeDecodeError as error:
        line = body[: error.start].decode(encoding).count("\n") + 1
        wrong = f"byte 0x{body[error.start]:02x} is not {encoding.upper()[:6].rstrip('-')}"
        raise ConfigurationError(f"{path}:{line}: {wrong}; {_FIX}") from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise ConfigurationError(f"{path}:{line}: holds a NUL character, so it is no text; {_FIX}")
    return text


def encoding_of(data: bytes) -> tuple[bytes, str]:
    """The mark with which a file begins, empty where it has none, and the encoding that it stands for."""
    return next(((mark, name) for mark, name in _MARKS if data.startswith(mark)), (b"", "utf-8"))


def lines(text: str) -> list[str]:
    """Lines as an editor counts them: only line feeds end one, a carriage return before it belongs to it.

    >>> lines("a\\r\\nb\\u2028c")
    ['a', 'b\\u2028c']
    """
    return text.replace("\r\n", "\n").split("\n")
