"""The model card: what a reader must know before trusting a bundle, as Markdown."""

from __future__ import annotations

from datetime import UTC, datetime

from models.core.manifest import Manifest, TrainingWindow
from models.training.export.contents import Training

_SPEAKING = {
    "logistic": "logistic regression",
    "forest": "random forest",
    "xgboost": "gradient boosting (XGBoost)",
    "blend": "blend of several models (mean log-odds)",
}


def model_card(manifest: Manifest, training: Training) -> str:
    """Intended use, data, figures, inputs and limits; nothing in it depends on the clock."""
    lines = [
        f"# Model card: {manifest.name}",
        "",
        f"A {_SPEAKING[manifest.algorithm]} that gives the probability of the bad outcome for each event of"
        f" `{manifest.source or 'its source'}`.",
        "",
        "## Training data",
        "",
        *_data(manifest.training),
        "",
        "## Figures",
        "",
        "On rows that the model had not seen (each third scored by a model of the other two"
        + (", and folds in time or at random as configured):" if training.search else "):"),
        "",
        "| figure | value |",
        "|---|---|",
        *(f"| {name} | {value:.4f} |" for name, value in manifest.metrics.items()),
        "",
        "## Operating points",
        "",
        "| name | threshold |",
        "|---|---|",
        *(f"| {name} | {value:.6f} |" for name, value in manifest.thresholds.items()),
        "",
        "## Inputs",
        "",
        "| input | baseline | direction |",
        "|---|---|---|",
        *(_input(name, manifest) for name in (*manifest.numeric, *manifest.categorical)),
        "",
        "## Limits",
        "",
        "- Trained on the period above; when the drift alarm rises, evaluate and train again.",
        "- Probabilities are "
        + ("calibrated on unseen training rows." if training.settings.calibrate else "not calibrated."),
        "- Figures on simulated data say nothing of real data.",
        "",
    ]
    return "\n".join(lines)


def _data(window: TrainingWindow | None) -> list[str]:
    if window is None:
        return ["Unknown."]
    share = window.positives / max(window.rows, 1)
    lines = [f"{window.rows:,} rows, {window.positives:,} of them bad ({share:.2%})."]
    if window.end:
        lines.append(f"Events from {_day(window.start)} to {_day(window.end)} (UTC).")
    return lines


def _day(time: int) -> str:
    return datetime.fromtimestamp(time / 1e6, UTC).strftime("%Y-%m-%d")


def _input(name: str, manifest: Manifest) -> str:
    direction = {1: "rises", -1: "falls"}.get(manifest.constraints.get(name, 0), "free")
    value = manifest.baseline[name]
    shown = f"{value:.6g}" if isinstance(value, float) else str(value)
    return f"| `{name}` | {shown} | {direction} |"
