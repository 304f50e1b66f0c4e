"""The report in headless Chromium: every plot shows both settings.

Where chromium is not installed this is skipped on a developer's machine and fails in CI.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import zlib
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numba
import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from stream.replay.backtest.report.figures import figures
from stream.replay.backtest.report.page import write_page
from stream.replay.backtest.request import Setting

CHROMIUM = shutil.which("chromium")
WIDTH, HEIGHT = 1150, 3000
BLUE, ORANGE = (0x25, 0x63, 0xEB), (0xEA, 0x58, 0x0C)
LEGEND = 80
"""Height of a plot's head: its title and its legend, which is coloured in an empty plot too."""
MEASURE = """<script>addEventListener("load", () => { document.title = JSON.stringify(
[...document.querySelectorAll(".js-plotly-plot")].map(plot => { const box = plot.getBoundingClientRect();
return [box.left, box.top, box.right, box.bottom].map(Math.round) })) })</script></body>"""

pytestmark = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"), reason="chromium is not installed"
)


def decisions(shift: float, events: int = 3_000) -> pl.DataFrame:
    draw = np.random.default_rng(2)
    start = datetime(2026, 1, 1)
    score = np.clip(draw.beta(1, 4, events) + shift, 0, 1)
    label = (draw.random(events) < score).astype(np.float64)
    return pl.DataFrame({
        "event_id": [f"e{row}" for row in range(events)],
        "event_time": [start + timedelta(minutes=20 * row) for row in range(events)],
        "label_known": [start + timedelta(minutes=20 * row, days=2) for row in range(events)],
        "case_key": [f"c{row % 90}" for row in range(events)], "score": score, "label": label,
        "decision": np.where(score > 0.5, "review", "approve"), "alert": score > 0.5,
        "suppressed": [False] * events, "released": [False] * events, "exposure": draw.random(events) * 100,
        "reasons": [""] * events,
    })  # fmt: skip


def report(path: Path, events: int = 3_000) -> Path:
    frames = [decisions(0.0, events), decisions(0.1, events)]
    settings = [Setting(name, {}, "p", "f") for name in ("candidate", "against")]
    write_page(figures("payments", settings, [lambda _, one=one: iter([one]) for one in frames]), path)  # type: ignore[misc]
    path.write_text(path.read_text().replace("</body>", MEASURE))
    return path


def chromium(*arguments: str) -> str:
    assert CHROMIUM is not None, "in CI a missing chromium is a failure"
    options = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--virtual-time-budget=8000",
    )
    command = [CHROMIUM, *options, f"--window-size={WIDTH},{HEIGHT}", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def coloured(page: Path, folder: Path) -> list[tuple[int, int]]:
    """Of each plot, how many pixels below its head are blue and how many orange."""
    title = re.search(r"<title>(\[.*?\])</title>", chromium("--dump-dom", page.as_uri()))
    assert title is not None
    chromium(f"--screenshot={folder / 'shot.png'}", page.as_uri())
    image = pixels(folder / "shot.png")
    plots = [image[top + LEGEND : bottom, left:right] for left, top, right, bottom in json.loads(title[1])]
    assert all(plot.size for plot in plots)
    return [(_like(plot, BLUE), _like(plot, ORANGE)) for plot in plots]


def _like(plot: NDArray[np.int16], colour: tuple[int, int, int]) -> int:
    """Pixels of a colour, also where it lies thinly over white or over the other one."""
    red, _, blue = (plot[..., channel] for channel in range(3))
    return int(((blue - red > 60) if colour is BLUE else (red - blue > 60)).sum())


def pixels(path: Path) -> NDArray[np.int16]:
    """An 8-bit PNG without interlacing as [height, width, channels]."""
    data, at, packed = path.read_bytes(), 8, b""
    width, height, depth, kind = (
        int.from_bytes(data[16:20]),
        int.from_bytes(data[20:24]),
        data[24],
        data[25],
    )
    assert (depth, kind in (2, 6), data[28]) == (8, True, 0)
    while at < len(data):
        length = int.from_bytes(data[at : at + 4])
        packed += data[at + 8 : at + 8 + length] if data[at + 4 : at + 8] == b"IDAT" else b""
        at += length + 12
    step = 4 if kind == 6 else 3
    raw = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, 1 + width * step)
    compiled: Any = unfiltered
    return compiled(raw.astype(np.int16), step).reshape(height, width, step)


@numba.njit
def unfiltered(raw: NDArray[np.int16], step: int) -> NDArray[np.int16]:
    """Each byte is stored as its difference from one of its neighbours, chosen row by row."""
    height, width = raw.shape[0], raw.shape[1] - 1
    out = np.zeros((height, width), np.int16)
    for y in range(height):
        for x in range(width):
            left = out[y, x - step] if x >= step else 0
            up = out[y - 1, x] if y else 0
            corner = out[y - 1, x - step] if y and x >= step else 0
            kind, guess = raw[y, 0], 0
            if kind == 1:
                guess = left
            elif kind == 2:
                guess = up
            elif kind == 3:
                guess = (left + up) // 2
            elif kind == 4:
                to_left, to_up, to_corner = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
                guess = (
                    left
                    if to_left <= to_up and to_left <= to_corner
                    else up
                    if to_up <= to_corner
                    else corner
                )
            out[y, x] = (raw[y, x + 1] + guess) % 256
    return out


def test_every_plot_shows_both_settings(tmp_path: Path) -> None:
    found = coloured(report(tmp_path / "report.html"), tmp_path)
    assert len(found) == 4
    assert all(blue > 300 < orange for blue, orange in found), found


def test_empty_plots_would_be_seen(tmp_path: Path) -> None:
    assert all(count == (0, 0) for count in coloured(report(tmp_path / "empty.html", events=0), tmp_path))
