"""Loads the definitions of a user's project: a Python file with a module-level name `definitions`."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from features.core.errors import ConfigurationError, DefinitionError
from features.definitions.spec import Definitions

NAME = "definitions"


def load_definitions(path: str | Path) -> Definitions:
    """Run the file and return its `definitions`; it may import files beside it.

    The file is the user's own code, run like any module. Raises ConfigurationError when it is not
    there, DefinitionError with file and line when it does not run or does not define `definitions`.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigurationError(f"definitions file `{file}` does not exist")
    definitions = getattr(_run(file), NAME, None)
    if definitions is None:
        raise DefinitionError(str(file), f"the file does not set `{NAME} = Definitions(...)`")
    if not isinstance(definitions, Definitions):
        raise DefinitionError(str(file), f"`{NAME}` is a `{type(definitions).__name__}`, not a `Definitions`")
    return definitions


def _run(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"riskstream_project_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"definitions file `{file}` is not a Python file")
    module = importlib.util.module_from_spec(spec)
    folder = str(file.resolve().parent)
    before = set(sys.modules)
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except DefinitionError:
        raise
    except (Exception, SystemExit) as error:  # whatever the user's file raises is reported with its line
        raise DefinitionError(_line_of(file, error), f"{type(error).__name__}: {_reason(error)}") from error
    finally:
        sys.path.remove(folder)
        _forget(folder, set(sys.modules) - before)
    return module


def _forget(folder: str, names: set[str]) -> None:
    """Let go of what was imported from beside the file, so that another project's files can have its names."""
    for name in names:
        origin = getattr(sys.modules[name], "__file__", None)
        if origin is not None and str(Path(origin).resolve().parent) == folder:
            del sys.modules[name]


def _line_of(file: Path, error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f"{error.filename or file}:{error.lineno}"
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(file)]
    return f"{file}:{lines[-1]}" if lines else str(file)


def _reason(error: BaseException) -> str:
    return (error.msg if isinstance(error, SyntaxError) else str(error)).partition("\n")[0]
