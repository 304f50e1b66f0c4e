"""Recorded files: encoding marks are read, and a broken file is one line with its name and the row's line."""

from __future__ import annotations

import codecs
import gzip

import polars as pl
import pytest

from features.core.errors import ConfigurationError
from features.offline.recorded import read_frame, reading, scan

TEXT = "id,shop\n1,café\n2,x\n"


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ],
)
def test_any_mark_gives_the_same_columns(tmp_path, mark, encoding):
    file = tmp_path / "events.csv"
    file.write_bytes(mark + TEXT.encode(encoding))
    assert read_frame(str(file)).to_dict(as_series=False) == {"id": ["1", "2"], "shop": ["café", "x"]}


def parquet() -> bytes:
    import io

    out = io.BytesIO()
    pl.DataFrame({"id": list(range(1000))}).write_parquet(out)
    return out.getvalue()


BROKEN = {
    "latin.csv": (TEXT.encode("latin-1"), ":2: byte 0xe9 is not UTF-8; save the file as UTF-8"),
    "ragged.csv": (b"id,shop\n1,a\n2,b,c\n", ":3: 3 values, but the first line names 2 columns"),
    "quote.csv": (b'id,shop\n1,"a\n2,b\n', ":3: not CSV: unexpected end of data"),
    "empty.csv": (b"", ": is empty; the first line names the columns"),
    "ragged.csv.gz": (gzip.compress(b"id\n1,a\n"), ":2: 2 values"),
    "cut.csv.gz": (gzip.compress(TEXT.encode() * 9999)[:-20], ": not a whole gzip file"),
    "cut.parquet": (parquet()[:-100], ": not a whole Parquet file: File out of specification"),
    "empty.parquet": (b"", ": not a whole Parquet file"),
    "text.parquet": (b"id,shop", ": not a whole Parquet file"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_line(tmp_path, name):
    data, message = BROKEN[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ConfigurationError) as caught:
        read_frame(str(tmp_path / name))
    assert str(caught.value).startswith(f"{tmp_path / name}{message}")
    assert "\n" not in str(caught.value)


def test_of_several_files_the_broken_one_is_named(tmp_path):
    (tmp_path / "a.csv").write_text("id\n1\n")
    (tmp_path / "b.csv").write_text("id\n1,2\n")
    pattern = str(tmp_path / "*.csv")
    with pytest.raises(ConfigurationError, match=r"b\.csv:2: 2 values"), reading(pattern):
        scan(pattern).collect()


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigurationError, match=r"nowhere\.parquet: there is no such file"):
        read_frame(str(tmp_path / "nowhere.parquet"))
