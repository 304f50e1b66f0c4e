"""Files that people edit: any encoding mark, and one line that names file, line and fix."""

from __future__ import annotations

import codecs

import pytest

from features.core.errors import ConfigurationError
from features.core.files import lines, read_text
from features.core.toml import parse_toml, read_toml

TEXT = "name,list\nŻółć,漢字\n"
MARKED = {
    "utf-8": codecs.BOM_UTF8,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}


@pytest.mark.parametrize("encoding", MARKED)
def test_a_mark_says_the_encoding_and_is_no_text(tmp_path, encoding):
    file = tmp_path / "list.csv"
    file.write_bytes(MARKED[encoding] + TEXT.encode(encoding))
    assert read_text(file) == TEXT


def test_without_a_mark_it_is_utf8(tmp_path):
    (tmp_path / "list.csv").write_text(TEXT, encoding="utf-8")
    assert read_text(tmp_path / "list.csv") == TEXT


BROKEN = {
    "Latin-2": ("name\nŻółć".encode("iso8859-2"), ":2: byte 0xaf is not UTF-8; save the file as UTF-8"),
    "UTF-16 without a mark": ("a\nb".encode("utf-16-le"), ":1: holds a NUL character"),
    "half of UTF-16": (codecs.BOM_UTF16_LE + "a\nb".encode("utf-16-le")[:-1], ":2: byte 0x62 is not UTF-16"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_no_text_is_one_line_with_its_place(tmp_path, case):
    data, message = BROKEN[case]
    file = tmp_path / "list.csv"
    file.write_bytes(data)
    with pytest.raises(ConfigurationError) as caught:
        read_text(file)
    assert str(caught.value).startswith(f"{file}{message}")


def test_what_is_no_file_is_one_line(tmp_path):
    with pytest.raises(ConfigurationError, match="there is no such file"):
        read_text(tmp_path / "nowhere")
    with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
        read_text(tmp_path)


def test_lines_are_those_of_an_editor():
    assert lines("a\r\nb\x0bc\u2028d\n") == ["a", "b\x0bc\u2028d", ""]


def test_settings_take_a_mark_too(tmp_path):
    file = tmp_path / "riskstream.toml"
    file.write_bytes(codecs.BOM_UTF8 + b"a = 1")
    assert read_toml(file) == {"a": 1}


@pytest.mark.parametrize(
    ("text", "line"), [("a = 1\nb = \n", 2), ("\n\na = 1\na = 2", 4), ("[t]\nx = 'é\n", 2)]
)
def test_wrong_toml_names_its_line(text, line):
    with pytest.raises(ConfigurationError) as caught:
        parse_toml(text, "policy.toml")
    assert str(caught.value).startswith(f"policy.toml:{line}: not TOML: ")


def test_toml_nested_without_end_is_one_line():
    with pytest.raises(ConfigurationError, match=r"^policy.toml: not TOML: nested too deeply"):
        parse_toml("a = " + "[" * 100_000, "policy.toml")
