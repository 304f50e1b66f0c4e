"""Recorded events and tables: Parquet and CSV files, and one line for a file that cannot be read.

A CSV file may carry any encoding mark; its columns are texts, typed later by `features.offline.table_columns`.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from features.core.errors import ConfigurationError
from features.core.files import decode, encoding_of, read_bytes

_CSV = (".csv", ".csv.gz")
_PARQUET = (".parquet", ".pq")
_LONGEST_MARK = 4


def scan(path: str) -> pl.LazyFrame:
    """A lazy frame over a Parquet or CSV file (or files: a glob pattern); collect it within `reading(path)`."""
    if path.lower().endswith(_CSV):
        return pl.scan_csv(_source(path), infer_schema=False)
    if path.lower().endswith(_PARQUET):
        return pl.scan_parquet(path)
    raise ConfigurationError(f"`{path}` is neither Parquet nor CSV by its name (.parquet, .csv)")


def read_frame(path: str) -> pl.DataFrame:
    """All rows of a Parquet or CSV file; ConfigurationError names file, line and what is wrong."""
    with reading(path):
        return scan(path).collect()


def chunks(frame: pl.LazyFrame, size: int) -> Iterator[pl.DataFrame]:
    """The rows in order, at most about `size` at a time, without holding all of them."""
    yield from frame.collect_batches(chunk_size=size, maintain_order=True)


@contextmanager
def reading(*paths: str) -> Iterator[None]:
    """Turn what Polars says of a broken file into a ConfigurationError that names the file and, in CSV, the line.

    Files are looked at again only when reading failed, one after the other, until the broken one is known.
    """
    try:
        yield
    except (PolarsError, OSError) as error:
        for path in paths:
            for file in _files(path):
                _diagnose(file)
        if isinstance(error, OSError):
            raise
        reason = str(error).partition("\n")[0]
        raise ConfigurationError(f"{', '.join(paths)}: cannot be read: {reason}") from error


def _files(path: str) -> list[str]:
    """The files that a pattern stands for."""
    pattern = Path(path)
    matches = Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor)))
    return sorted(map(str, matches)) or [path]


def _source(path: str) -> str | io.BytesIO:
    """The file itself, or its text in UTF-8 where its mark names another encoding."""
    if path.endswith(".gz") or not Path(path).is_file():
        return path
    with Path(path).open("rb") as file:
        _, encoding = encoding_of(file.read(_LONGEST_MARK))
    return path if encoding == "utf-8" else io.BytesIO(decode(read_bytes(path), path).encode())


def _diagnose(path: str) -> None:
    """Raise a ConfigurationError where this file is the broken one."""
    data = read_bytes(path)
    if path.lower().endswith(_CSV):
        _check_csv(path, data)
    elif path.lower().endswith(_PARQUET):
        try:
            pl.read_parquet(io.BytesIO(data))
        except PolarsError as error:
            reason = str(error).partition("\n")[0].removeprefix("parquet: ")
            raise ConfigurationError(f"{path}: not a whole Parquet file: {reason}") from None


def _check_csv(path: str, data: bytes) -> None:
    if path.lower().endswith(".gz"):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError) as error:
            raise ConfigurationError(f"{path}: not a whole gzip file: {error}") from None
    rows = csv.reader(io.StringIO(decode(data, path), newline=""), strict=True)
    try:
        header = next(rows, [])
        if not header:
            raise ConfigurationError(f"{path}: is empty; the first line names the columns")
        for row in rows:
            if len(row) > len(header):
                columns = f"{len(row)} values, but the first line names {len(header)} columns"
                raise ConfigurationError(f"{path}:{rows.line_num}: {columns}")
    except csv.Error as error:
        raise ConfigurationError(f"{path}:{rows.line_num}: not CSV: {error}") from None
