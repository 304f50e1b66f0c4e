"""Profiles that may be missing: where policy says so, a store that is away does not stop scoring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from features.store.base import ProfileStore, StoreUnavailable


class OptionalProfiles:
    """Answers "no such row" while the store is away, which each decision then carries as a flag."""

    def __init__(self, store: ProfileStore) -> None:
        self._store = store

    def get_profiles(self, profile: str, keys: Sequence[str]) -> list[bytes | None]:
        """See ProfileStore."""
        try:
            return self._store.get_profiles(profile, keys)
        except StoreUnavailable:
            return [None] * len(keys)

    def put_profiles(self, profile: str, rows: Mapping[str, bytes]) -> None:
        """See ProfileStore; this one raises."""
        self._store.put_profiles(profile, rows)
