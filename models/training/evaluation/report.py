"""The evaluation as one HTML file: plots and their library inside, nothing is fetched when it is opened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader
from plotly.offline import get_plotlyjs

_ENVIRONMENT = Environment(
    loader=PackageLoader("models.training.evaluation", "templates"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)
_INK, _BAD, _GOOD, _SOFT = "#1f2a37", "#c2410c", "#0f766e", "#94a3b8"


def render_report(figures: Mapping[str, Any], card: str = "") -> str:
    """HTML of an evaluation (models/training/evaluation/evaluate.py) with its model card."""
    plots = {name: _html(figure) for name, figure in _plots(figures).items()}
    return _ENVIRONMENT.get_template("report.html").render(
        figures=figures, plots=plots, card=card, library=get_plotlyjs()
    )


def _plots(figures: Mapping[str, Any]) -> dict[str, Any]:
    curves = figures["accuracy"]["curves"]
    plots = {
        "roc": _line(curves["roc"], "false positive rate", "true positive rate", diagonal=True),
        "precision_recall": _line(curves["precision_recall"], "recall", "precision"),
        "scores": _scores(figures["score_histogram"]),
        "money": _money(figures["money"]),
        "calibration": _calibration(figures["stability"]["calibration"]["bins"]),
        "importances": _bars(figures["explanations"]["importances"], "fall of ROC AUC when shuffled"),
        "shift": _bars(figures["stability"]["shift"]["feature_psi"], "PSI against training"),
    }
    if figures["explanations"]["reasons"]:
        plots["reasons"] = _bars(figures["explanations"]["reasons"], "share of flagged rows naming it")
    if figures["stability"]["periods"]:
        plots["periods"] = _periods(figures["stability"]["periods"])
    return plots


def _html(figure: Any) -> str:
    figure.update_layout(
        template="plotly_white",
        height=360,
        margin={"l": 60, "r": 20, "t": 20, "b": 50},
        font={"color": _INK, "family": "system-ui, sans-serif", "size": 13},
        legend={"orientation": "h", "y": 1.12},
    )
    return str(
        figure.to_html(
            full_html=False, include_plotlyjs=False, config={"displayModeBar": False, "responsive": True}
        )
    )


def _line(curve: Mapping[str, Any], across: str, up: str, *, diagonal: bool = False) -> Any:
    figure = go.Figure(go.Scatter(x=curve["x"], y=curve["y"], mode="lines", line={"color": _GOOD}))
    if diagonal:
        figure.add_shape(type="line", x0=0, y0=0, x1=1, y1=1, line={"color": _SOFT, "dash": "dot"})
    return figure.update_layout(xaxis_title=across, yaxis_title=up, showlegend=False)


def _scores(histogram: Mapping[str, Any]) -> Any:
    middle = [(a + b) / 2 for a, b in zip(histogram["edges"], histogram["edges"][1:], strict=False)]
    figure = go.Figure()
    for name, color in (("good", _GOOD), ("bad", _BAD)):
        total = max(sum(histogram[name]), 1)
        shares = [count / total for count in histogram[name]]
        figure.add_bar(x=middle, y=shares, name=name, marker_color=color, opacity=0.75)
    return figure.update_layout(
        xaxis_title="score", yaxis_title="share of rows", yaxis_type="log", barmode="overlay"
    )


def _money(money: Mapping[str, Any]) -> Any:
    points = money["points"]
    figure = go.Figure(
        go.Scatter(
            x=[p["threshold"] for p in points],
            y=[p["cost"] for p in points],
            name="cost",
            line={"color": _INK},
        )
    )
    figure.add_hline(y=money["flag_nothing"], line={"color": _SOFT, "dash": "dot"})
    figure.add_vline(x=money["best_threshold"], line={"color": _BAD, "dash": "dash"})
    return figure.update_layout(xaxis_title="threshold", yaxis_title="cost", showlegend=False)


def _calibration(bins: list[Mapping[str, float]]) -> Any:
    figure = go.Figure(
        go.Scatter(
            x=[b["score"] for b in bins],
            y=[b["bad"] for b in bins],
            mode="lines+markers",
            line={"color": _GOOD},
        )
    )
    top = max(max(b["score"] for b in bins), max(b["bad"] for b in bins), 1e-6)
    figure.add_shape(type="line", x0=0, y0=0, x1=top, y1=top, line={"color": _SOFT, "dash": "dot"})
    return figure.update_layout(xaxis_title="mean score", yaxis_title="share bad", showlegend=False)


def _bars(values: Mapping[str, float], across: str, most: int = 20) -> Any:
    first = list(values.items())[:most][::-1]
    figure = go.Figure(
        go.Bar(x=[v for _, v in first], y=[n for n, _ in first], orientation="h", marker_color=_GOOD)
    )
    low, high = min(0.0, *values.values()), max(0.1, *values.values())
    return figure.update_layout(
        xaxis_title=across, xaxis_range=[low, high * 1.05], yaxis={"automargin": True}
    )


def _periods(periods: list[Mapping[str, Any]]) -> Any:
    times = [p["start"] / 1000 for p in periods]
    figure = go.Figure()
    for name, color in (("roc_auc", _GOOD), ("average_precision", _BAD)):
        figure.add_scatter(x=times, y=[p[name] for p in periods], name=name, line={"color": color})
    return figure.update_layout(xaxis_type="date", yaxis_range=[0, 1])
