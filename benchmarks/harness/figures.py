"""Figures of a measuring target: `build/NAME.json`, beside it the JSON Schema with its limits, and whether they hold.

Every target that writes figures has `benchmarks/schemas/NAME.json`: units and counts in the descriptions, limits as
`minimum`, `maximum` and `const`. What does not hold is printed last, and the target ends with 1.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema_rs

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
SCHEMAS = ROOT / "benchmarks" / "schemas"


def violations(name: str, figures: dict[str, Any]) -> list[str]:
    """The limits of `benchmarks/schemas/NAME.json` that the figures do not hold, one line each."""
    validator = jsonschema_rs.validator_for(json.loads((SCHEMAS / f"{name}.json").read_text()))
    return [
        f"{'.'.join(str(step) for step in error.instance_path) or name}: {error.message}"
        for error in validator.iter_errors(json.loads(json.dumps(figures)))
    ]


def write(name: str, figures: dict[str, Any]) -> list[str]:
    """Write `build/NAME.json` and its schema beside it; print and return the limits that do not hold."""
    BUILD.mkdir(exist_ok=True)
    (BUILD / f"{name}.json").write_text(json.dumps(figures, indent=2) + "\n")
    shutil.copyfile(SCHEMAS / f"{name}.json", BUILD / f"{name}.schema.json")
    broken = violations(name, figures)
    for line in broken:
        print(f"build/{name}.json: {line}", flush=True)
    return broken
