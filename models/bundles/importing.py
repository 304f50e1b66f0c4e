"""Makes a bundle of an ONNX file from anywhere, with the signature that its owner declares.

    name = "propensity"                    the declaration, a TOML file
    source = "transactions"
    numeric = ["amount", "amount_mean_7d_by_card"]
    categorical = ["channel"]
    output = "probabilities"               optional, and so are input, version, algorithm
    [baseline]
    amount = 40.0
    amount_mean_7d_by_card = 42.0
    channel = "shop"
    [thresholds]
    cheapest = 0.4
    [fill]                                 optional: the value of a number where an event has none
    amount_mean_7d_by_card = 0.0

Golden rows come from the model itself: they prove at each load that this machine runs it alike, not
that it is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from features.core.files import read_text
from features.core.toml import convert, parse_toml
from features.definitions.plan import Plan
from models.bundles.bundle import Contents
from models.core.errors import BundleRefused
from models.core.inputs import as_texts, from_columns
from models.core.manifest import Manifest
from models.formats import runners

_GOLDEN_ROWS = 16
_UNKNOWN_TEXT = "a value that training never saw"
_EXTREMES = (0.0, -1e30, 1e30)


class Declaration(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an ONNX file does not say of itself."""

    name: str
    source: str
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    baseline: dict[str, float | str]
    version: str = ""
    algorithm: str = "imported"
    input: str = "features"
    output: str = ""
    thresholds: dict[str, float] = {}
    fill: dict[str, float] = {}


def read_declaration(path: str) -> Declaration:
    """Read a declaration; ConfigurationError says what is wrong with it."""
    file = Path(path)
    return convert(parse_toml(read_text(file), file), Declaration, file, strict=True)


def import_onnx(model: bytes, declared: Declaration, plan: Plan) -> Contents:
    """The contents of a bundle for `bundle.write`; BundleRefused when graph and declaration disagree.

    The graph is tried on ordinary rows, on missing values, unknown texts and extremes. A model that has no score where
    an input may be missing is refused: give the input a value under `[fill]`.
    """
    drafted = Manifest(
        name=declared.name,
        version=declared.version,
        algorithm=declared.algorithm,
        source=declared.source,
        plan=plan.fingerprint,
        numeric=declared.numeric,
        categorical=declared.categorical,
        baseline=dict(declared.baseline),
        files={},
        input=declared.input,
        output=declared.output,
        thresholds=dict(declared.thresholds),
        fill=dict(declared.fill) or msgspec.UNSET,
    )
    _check_fill(declared)
    runner = runners.open_runner(model, drafted, declared.name)
    signature = replace(drafted.signature, exact=runner.exact)
    columns, probed = probes(drafted, may_be_missing(declared, plan), runner.whole)
    score = runners.try_run(runner, from_columns(columns, signature), declared.name)
    valid = (score >= 0.0) & (score <= 1.0)
    refused = sorted({probed[row] for row in np.flatnonzero(~valid).tolist() if row in probed})
    if refused:
        raise BundleRefused(
            declared.name,
            f"it has no score where {', '.join(refused)} is missing or unknown; give the input a value under [fill],"
            " declare the field as required, or export the model with imputation",
        )
    shown = {name: [values[row] for row in np.flatnonzero(valid)] for name, values in columns.items()}
    card = f"# {declared.name}\n\nImported from an ONNX file; see its maker for data and measures.\n"
    if not valid.all():
        card += (
            "\nIt has no valid score for some extreme values: such events are reviewed (`score_invalid`).\n"
        )
    return Contents(
        manifest=drafted, model=model, golden=shown, golden_scores=score[valid].tolist(), card=card
    )


def may_be_missing(declared: Declaration, plan: Plan) -> frozenset[str]:
    """Inputs that an event may leave without a value: all but required fields, filled features and filled inputs."""
    source, reader = plan.sources.get(declared.source), plan.readers.get(declared.source)
    if source is None or reader is None:
        return frozenset()
    present = {field.name for field in source.fields if field.required}
    present |= {
        feature.name for feature in reader.features if not feature.text and feature.fill == feature.fill
    }
    return frozenset({*declared.numeric, *declared.categorical} - present - declared.fill.keys())


def probes(
    drafted: Manifest, missing: frozenset[str], whole: Sequence[str]
) -> tuple[dict[str, list[float | str | None]], dict[int, str]]:
    """Rows to try a model on, and the input that each row of a missing value or an unknown text is about.

    The baseline, rows scattered around it, one row for each input that may be missing or unknown, and one for each
    extreme of each number; always the same ones.
    """
    rng = np.random.default_rng(0)
    usual: dict[str, float | str | None] = {
        name: _baseline(drafted, name) for name in (*drafted.numeric, *drafted.categorical)
    }
    rows = [dict(usual)]
    for _ in range(_GOLDEN_ROWS - 1):
        scattered = dict(usual)
        for name in drafted.numeric:
            centre = float(usual[name] or 0.0)
            value = float(np.float32(centre + max(abs(centre), 1.0) * rng.normal()))
            scattered[name] = float(round(value)) if name in whole else value
        rows.append(scattered)
    probed: dict[int, str] = {}
    for name in sorted(missing):
        probed[len(rows)] = name
        rows.append(usual | {name: None})
    for name in drafted.categorical:
        probed[len(rows)] = name
        rows.append(usual | {name: _UNKNOWN_TEXT})
    for name in drafted.numeric:
        extremes = (0.0, 1.0) if name in whole else _EXTREMES
        rows += [usual | {name: value} for value in extremes]
    return {name: [row[name] for row in rows] for name in usual}, probed


def _baseline(drafted: Manifest, name: str) -> float | str:
    value = drafted.baseline.get(name)
    if name in drafted.categorical:
        return str(as_texts([value])[0])
    return float(value or 0.0)


def _check_fill(declared: Declaration) -> None:
    unknown = sorted(declared.fill.keys() - set(declared.numeric))
    if unknown:
        raise BundleRefused(declared.name, f"fill: {', '.join(unknown)} is not among the numeric inputs")
