"""Versions of models and the aliases that point at them, in a directory or at any fsspec URL.

    REGISTRY/NAME/VERSION/...        a bundle; written once, never changed
    REGISTRY/NAME/aliases.json       champion, challenger, ... and who they were before

All aliases of a model and their history are one small file, replaced as a whole: a reader sees the
old state or the new one. Promotions on one machine wait for each other (a lock file); on an object
store the last one wins.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import msgspec

from features.core.errors import ConfigurationError
from models.core.manifest import MANIFEST_FILE

ALIASES_FILE = "aliases.json"
CHAMPION = "champion"
_LOCK_FILE = ".lock"
_KEPT_CHANGES = 1000
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One switch of an alias; `at` in microseconds since 1970 UTC. `before` is None the first time."""

    alias: str
    version: str
    before: str | None
    action: str
    at: int


class Aliases(msgspec.Struct, frozen=True, kw_only=True):
    """`stacks[alias]`: versions promoted one after the other; the last is what the alias means."""

    stacks: dict[str, tuple[str, ...]] = {}
    history: tuple[Change, ...] = ()

    def current(self) -> dict[str, str]:
        """What each alias means now."""
        return {alias: stack[-1] for alias, stack in self.stacks.items() if stack}


@dataclass(frozen=True, kw_only=True)
class ResolvedVersion:
    """A resolved reference; `path` is what `bundle.load` takes, name and version what it must find there."""

    name: str
    version: str
    path: str


class Registry:
    """One registry. Every call reads anew; nothing is cached."""

    def __init__(self, url: str) -> None:
        self._url = str(url).rstrip("/")
        self._fs, root = fsspec.core.url_to_fs(self._url)
        self._root = str(root).rstrip("/")
        self._local = "file" in _protocols(self._fs)

    def names(self) -> list[str]:
        """Models that have at least one version."""
        return [name for name in self._folders(self._root) if self.versions(name)]

    def versions(self, name: str) -> list[str]:
        """Versions of a model, by name."""
        home = f"{self._root}/{_checked(name)}"
        return [v for v in self._folders(home) if self._fs.exists(f"{home}/{v}/{MANIFEST_FILE}")]

    def aliases(self, name: str) -> Aliases:
        """Aliases of a model and their history."""
        try:
            data = self._fs.cat_file(f"{self._root}/{_checked(name)}/{ALIASES_FILE}")
        except FileNotFoundError:
            return Aliases()
        try:
            return msgspec.json.decode(data, type=Aliases)
        except msgspec.MsgspecError as error:
            raise ConfigurationError(f"{self._url}/{name}/{ALIASES_FILE}: {error}") from error

    def path(self, name: str, version: str) -> str:
        """Where a version's bundle stands, or is to stand."""
        return f"{self._url}/{_checked(name)}/{_checked(version)}"

    def resolve(self, reference: str) -> ResolvedVersion:
        """Find `NAME@ALIAS` or `NAME@VERSION`; ConfigurationError when there is neither."""
        name, _, wanted = reference.partition("@")
        if not wanted:
            raise ConfigurationError(f"model {reference}: write NAME@ALIAS or NAME@VERSION")
        current = self.aliases(name).current()
        version = current.get(wanted, wanted)
        if not self._fs.exists(f"{self._root}/{_checked(name)}/{_checked(version)}/{MANIFEST_FILE}"):
            known = sorted({*current, *self.versions(name)})
            raise ConfigurationError(
                f"model {reference}: {self._url} has no such alias or version of `{name}`; "
                f"it has {', '.join(known) or 'none'}"
            )
        return ResolvedVersion(name=name, version=version, path=self.path(name, version))

    def promote(self, name: str, version: str, alias: str = CHAMPION) -> Aliases:
        """Let an alias mean a version from now on."""
        found = self.resolve(f"{name}@{version}")
        _checked(alias)
        if alias in self.versions(name):
            raise ConfigurationError(f"model {name}: `{alias}` is a version, so it cannot be an alias")

        def push(stack: tuple[str, ...]) -> tuple[str, ...]:
            return stack if stack and stack[-1] == found.version else (*stack, found.version)

        return self._change(name, alias, "promote", push)

    def previous(self, name: str, alias: str = CHAMPION) -> str:
        """The version that `rollback` goes back to; ConfigurationError when there is none."""
        return _without_last(self.aliases(name).stacks.get(alias, ()), name, alias)[-1]

    def rollback(self, name: str, alias: str = CHAMPION) -> Aliases:
        """Let an alias mean what it meant before its last promotion."""
        return self._change(name, alias, "rollback", lambda stack: _without_last(stack, name, alias))

    def add(self, name: str, version: str, files: dict[str, bytes]) -> str:
        """Copy a bundle's files in as they are; refuses a version that exists. The manifest goes last."""
        target = self.path(name, version)
        if version in self.versions(name):
            raise ConfigurationError(f"{target}: exists already; versions are immutable")
        home = f"{self._root}/{name}/{version}"
        self._fs.makedirs(home, exist_ok=True)
        for file in sorted(files, key=lambda file: file == MANIFEST_FILE):
            self._fs.pipe_file(f"{home}/{file}", files[file])
        return target

    def _change(
        self, name: str, alias: str, action: str, edit: Callable[[tuple[str, ...]], tuple[str, ...]]
    ) -> Aliases:
        with self._lock(name):
            old = self.aliases(name)
            before = old.stacks.get(alias, ())
            after = edit(before)
            change = Change(
                alias=alias,
                version=after[-1],
                before=before[-1] if before else None,
                action=action,
                at=time.time_ns() // 1000,
            )
            new = Aliases(
                stacks={**old.stacks, alias: after[-_KEPT_CHANGES:]},
                history=(*old.history, change)[-_KEPT_CHANGES:],
            )
            self._replace(f"{self._root}/{name}/{ALIASES_FILE}", msgspec.json.encode(new))
        return new

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        if not self._local:
            yield
            return
        with (Path(self._root) / name / _LOCK_FILE).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _replace(self, path: str, data: bytes) -> None:
        """One object-store PUT, or one rename: whole or not at all."""
        if not self._local:
            self._fs.pipe_file(path, data)
            return
        written = Path(f"{path}.{os.getpid()}.new")
        with written.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        written.replace(path)

    def _folders(self, path: str) -> list[str]:
        self._fs.invalidate_cache(path)
        try:
            entries = self._fs.ls(path, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        names = (str(e["name"]).rstrip("/").rsplit("/", 1)[-1] for e in entries if e["type"] == "directory")
        return sorted(names)


def _without_last(stack: tuple[str, ...], name: str, alias: str) -> tuple[str, ...]:
    if len(stack) < 2:
        raise ConfigurationError(f"model {name}@{alias}: there is no earlier version to go back to")
    return stack[:-1]


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def _checked(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise ConfigurationError(f"model or version `{name}`: use letters, digits, dots, dashes, underscores")
    return name
