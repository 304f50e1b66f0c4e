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

Golden rows come from the model itself: they prove at each load that this machine runs it alike, not
that it is right.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from msgspec import Struct

from features.core.files import read_text
from features.core.toml import convert, parse_toml
from features.definitions.plan import Plan
from models.bundles.bundle import Contents
from models.core.base import ModelInputs
from models.core.inputs import as_texts
from models.core.manifest import Manifest
from models.formats import runners

_GOLDEN_ROWS = 16


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


def read_declaration(path: str) -> Declaration:
    """Read a declaration; ConfigurationError says what is wrong with it."""
    file = Path(path)
    return convert(parse_toml(read_text(file), file), Declaration, file, strict=True)


def import_onnx(model: bytes, declared: Declaration, plan: Plan) -> Contents:
    """The contents of a bundle for `bundle.write`; BundleRefused when graph and declaration disagree."""
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
    )
    inputs = _golden_inputs(drafted)
    runner = runners.open_runner(model, drafted, declared.name)
    score = runners.try_run(runner, inputs, declared.name)
    columns: dict[str, list[float | str | None]] = {
        name: inputs.numeric[:, index].tolist() for index, name in enumerate(drafted.numeric)
    }
    columns |= {name: column.tolist() for name, column in inputs.categorical.items()}
    card = f"# {declared.name}\n\nImported from an ONNX file; see its maker for data and measures.\n"
    return Contents(manifest=drafted, model=model, golden=columns, golden_scores=score.tolist(), card=card)


def _golden_inputs(drafted: Manifest) -> ModelInputs:
    """The baseline, and rows scattered around it; always the same ones."""
    rng = np.random.default_rng(0)
    numeric = np.zeros((_GOLDEN_ROWS, len(drafted.numeric)), dtype=np.float32)
    for index, name in enumerate(drafted.numeric):
        baseline = float(drafted.baseline.get(name) or 0.0)
        spread = max(abs(baseline), 1.0)
        numeric[:, index] = baseline + spread * rng.normal(size=_GOLDEN_ROWS)
        numeric[0, index] = baseline
    texts = {name: as_texts([drafted.baseline.get(name)] * _GOLDEN_ROWS) for name in drafted.categorical}
    return ModelInputs(numeric, texts)
