"""The report as one HTML file that needs nothing from outside: plots, tables, and what they mean in words."""

from __future__ import annotations

from pathlib import Path

import jinja2
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from stream.replay.backtest.report.results import Figures, SettingFigures
from stream.replay.backtest.report.tally import BINS

_COLOURS = ("#2563eb", "#ea580c")
_LAYOUT = {
    "template": "plotly_white",
    "margin": {"l": 60, "r": 20, "t": 80, "b": 50},
    "height": 380,
    "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"},
}


def write_page(figures: Figures, path: Path) -> None:
    """Write the report to `path`; about 5 MB, most of it the plotting library."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    sides = [figures.a] if figures.b is None else [figures.a, figures.b]
    plots = [_daily(sides), _scores(sides), _sweep(sides), _precision_recall(sides)]
    html = environment.get_template("page.html.j2").render(
        figures=figures,
        sides=sides,
        library=get_plotlyjs(),
        plots=[plot.to_html(full_html=False, include_plotlyjs=False) for plot in plots],
    )
    path.write_text(html)


def _daily(sides: list[SettingFigures]) -> go.Figure:
    figure = go.Figure(layout={**_LAYOUT, "title": "Alerts a day"})
    for side, colour in zip(sides, _COLOURS, strict=False):
        days = [day.day for day in side.days]
        figure.add_scatter(
            x=days,
            y=[day.alerts for day in side.days],
            name=f"{side.setting.name}: alerts",
            line={"color": colour},
        )
        figure.add_scatter(
            x=days,
            y=[day.bad_alerts for day in side.days],
            name=f"{side.setting.name}: known bad",
            line={"color": colour, "dash": "dot"},
        )
    return figure.update_yaxes(title="alerts", rangemode="tozero")


def _scores(sides: list[SettingFigures]) -> go.Figure:
    figure = go.Figure(layout={**_LAYOUT, "title": "Distribution of scores", "barmode": "overlay"})
    centres = [(place + 0.5) / BINS for place in range(BINS)]
    for side, colour in zip(sides, _COLOURS, strict=False):
        figure.add_bar(
            x=centres, y=side.histogram, name=f"{side.setting.name}: all", marker_color=colour, opacity=0.35
        )
        figure.add_bar(
            x=centres,
            y=side.histogram_bad,
            name=f"{side.setting.name}: known bad",
            marker_color=colour,
            opacity=0.9,
        )
    return figure.update_yaxes(title="events (log)", type="log").update_xaxes(title="score")


def _sweep(sides: list[SettingFigures]) -> go.Figure:
    figure = go.Figure(layout={**_LAYOUT, "title": "If the threshold moved: value against alerts a day"})
    for side, colour in zip(sides, _COLOURS, strict=False):
        figure.add_scatter(
            x=[point.alerts_per_day for point in side.sweep],
            y=[point.value for point in side.sweep],
            name=side.setting.name,
            text=[f"threshold {point.threshold:.4f}" for point in side.sweep],
            line={"color": colour},
        )
    return figure.update_xaxes(title="alerts a day (log)", type="log").update_yaxes(
        title="money caught less review cost"
    )


def _precision_recall(sides: list[SettingFigures]) -> go.Figure:
    figure = go.Figure(
        layout={**_LAYOUT, "title": "Precision against recall, on events with a known outcome"}
    )
    for side, colour in zip(sides, _COLOURS, strict=False):
        points = [point for point in side.sweep if point.precision is not None and point.recall is not None]
        figure.add_scatter(
            x=[point.recall for point in points],
            y=[point.precision for point in points],
            name=side.setting.name,
            text=[f"threshold {point.threshold:.4f}" for point in points],
            line={"color": colour},
        )
    return figure.update_xaxes(title="recall", range=[0, 1]).update_yaxes(title="precision", range=[0, 1.02])
