"""Makes a project out of the files beside this one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from features.core.errors import ConfigurationError
from features.core.times import now_ms, rfc3339
from stream.project.scaffold import draft
from stream.project.scaffold.guess import guess

_FILES = ("definitions.py", "riskstream.toml", "policy.toml", "event.json")


@dataclass(frozen=True)
class NewProject:
    """Files that were written, and what a person should check in them."""

    files: list[Path]
    checks: tuple[str, ...]


def make_project(directory: Path, sample: Path | None = None) -> NewProject:
    """Write the files of a new project, fitting a sample of events where one is given; overwrites nothing."""
    name = re.sub(r"[^a-z0-9]+", "-", directory.resolve().name.lower()).strip("-") or "riskstream"
    existing = [file for file in _FILES if (directory / file).exists()]
    if existing:
        raise ConfigurationError(f"{directory / existing[0]} exists already; name an empty directory")
    guessed = None if sample is None else guess(sample)
    drafted = {} if guessed is None else draft.files(guessed)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{directory}: cannot be created: {error.strerror}") from None
    now = rfc3339(now_ms() * 1000)
    source = "payments" if sample is None else "events"
    written = []
    for file in _FILES:
        text = drafted.get(file) or (files("stream.project.scaffold") / file).read_text("utf-8")
        target = directory / file
        target.write_text(
            text.replace("@NAME@", name).replace("@NOW@", now).replace("@SOURCE@", source), "utf-8"
        )
        written.append(target)
    return NewProject(written, () if guessed is None else guessed.checks)
