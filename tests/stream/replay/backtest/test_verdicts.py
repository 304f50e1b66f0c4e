"""Labels joined bucket by bucket and part by part are those of one plain join; parts survive an interruption."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from stream.replay.backtest.parts import KnownScores, PartReader, PartWriter, parts_of
from stream.replay.backtest.report.verdicts import Verdicts

START = datetime(2026, 3, 1)


def decisions(rows: int) -> pl.DataFrame:
    """Every tenth event twice."""
    return pl.DataFrame(
        {
            "event_id": [f"e{row - (row % 10 == 1)}" for row in range(rows)],
            "score": [row / rows for row in range(rows)],
        }
    )


def labels(rows: int) -> pl.DataFrame:
    """Half of the events, some corrected later, some corrected earlier, some of nothing."""
    draw = random.Random(6)
    chosen = [draw.randrange(rows + 20) for _ in range(rows)]
    return pl.DataFrame({
        "labelled": [f"e{row}" for row in chosen], "label": [float(draw.random() < 0.3) for _ in chosen],
        "label_known": [START + timedelta(minutes=draw.randrange(5_000)) for _ in chosen],
    })  # fmt: skip


@pytest.mark.parametrize(("bucket_rows", "part"), [(10_000, 100), (300, 100), (77, 31), (10_000, 5_000)])
def test_labels_are_those_of_one_join(tmp_path: Path, bucket_rows: int, part: int) -> None:
    made, known = decisions(1_000), labels(1_000)
    writer = PartWriter(tmp_path / "decisions", part)
    for cut in made.iter_slices(64):
        writer.add(cut)
    writer.close()
    verdicts = Verdicts(tmp_path / "verdicts", known.height, bucket_rows)
    for cut in known.iter_slices(90):
        verdicts.add(cut)
    verdicts.join("tx", tmp_path / "decisions")
    parts = list(verdicts.judged("tx", tmp_path / "decisions"))
    assert [one.height for one in parts[:-1]] == [part] * (len(parts) - 1)
    latest = known.sort("label_known", maintain_order=True).unique("labelled", keep="last")
    plain = made.join(latest, left_on="event_id", right_on="labelled", how="left", maintain_order="left")
    assert pl.concat(parts).equals(plain)
    assert 200 < plain["label"].null_count() < 800


def test_no_label_at_all_leaves_all_unknown(tmp_path: Path) -> None:
    writer = PartWriter(tmp_path / "decisions", 100)
    writer.add(decisions(150))
    writer.close()
    verdicts = Verdicts(tmp_path / "verdicts", 0)
    verdicts.join("tx", tmp_path / "decisions")
    assert pl.concat(verdicts.judged("tx", tmp_path / "decisions", ["event_id"]))["label"].null_count() == 150


def test_parts_are_the_same_however_often_a_writer_was_stopped(tmp_path: Path) -> None:
    made = decisions(1_000)
    whole = PartWriter(tmp_path / "whole", 128)
    whole.add(made)
    whole.close()
    kept = 0
    for stop in (5, 128, 300, 301, 1_000):
        writer = PartWriter(tmp_path / "often", 128)
        assert writer.kept == kept
        writer.add(made[kept:stop])
        writer.close()
        kept = stop
    both = [[pl.read_parquet(part) for part in parts_of(tmp_path / name)] for name in ("whole", "often")]
    assert len(both[0]) == len(both[1]) == 8
    assert all(a.equals(b) for a, b in zip(*both, strict=True))


def test_known_scores_end_where_the_next_batch_is_not_wholly_known(tmp_path: Path) -> None:
    writer = PartWriter(tmp_path, 40)
    writer.add(decisions(100))
    writer.close()
    known = KnownScores(tmp_path, ["score"])
    first, second = known.take(70), known.take(20)
    assert first is not None and second is not None
    assert [*first[0], *second[0]] == [row / 100 for row in range(90)]
    assert known.take(11) is None
    assert known.take(1) is None


def test_a_reader_follows_a_writer(tmp_path: Path) -> None:
    """A short part may still grow; it is read once nothing more will come."""
    over = [False]
    reader = PartReader(tmp_path, ended=lambda: over[0])
    writer = PartWriter(tmp_path, 10)
    writer.add(pl.DataFrame({"position": range(30)}))
    assert reader.until("position", 15)["position"].to_list() == list(range(15))
    writer.add(pl.DataFrame({"position": range(30, 33)}))
    writer.close()
    over[0] = True
    assert reader.until("position", 99)["position"].to_list() == list(range(15, 33))
