"""Foreign text on a terminal is shown and never obeyed."""

from __future__ import annotations

import io
import json
import sys

import pytest

from stream.telemetry.terminal import echo, escaped


@pytest.mark.parametrize(
    "code", [0x00, 0x07, 0x0A, 0x0D, 0x1B, 0x7F, 0x85, 0x9B, 0x061C, 0x200F, 0x2028, 0x202E, 0x2066]
)
def test_controls_of_a_terminal_are_escaped(code):
    assert escaped(f"a{chr(code)}b") == f"a\\u{code:04x}b"


def test_other_text_stays_as_it_is():
    text = "Żółć 漢字 [bold] {x} \\ 🂡 שלום"
    assert escaped(text) == text


def test_lines_of_the_program_keep_their_breaks(capsys):
    echo("one\n\ttwo\x1b[31m")
    assert capsys.readouterr().out == "one\n\ttwo\\u001b[31m\n"


def test_json_stays_the_same_document(capsys):
    value = {"reason": "\u202ecard\u009b\x7f\n"}
    echo(json.dumps(value, ensure_ascii=False))
    printed = capsys.readouterr().out
    assert json.loads(printed) == value
    assert printed.isascii()


def test_what_the_encoding_lacks_is_escaped(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    echo("Żółć \ud800")
    stream.seek(0)
    assert stream.read() == "\\u017b\\xf3\\u0142\\u0107 \\ud800\n"
