"""Errors of models and policies; they fit into the tree of `features.core.errors`."""

from __future__ import annotations

from features.core.errors import ConfigurationError


class BundleRefused(ConfigurationError):
    """A bundle is not served: altered, not signed by a trusted key, made for another plan, or not a model.

    `bundle` names it, `reason` says which check failed and what was expected.
    """

    def __init__(self, bundle: str, reason: str) -> None:
        super().__init__(f"bundle {bundle} refused: {reason}")
        self.bundle = bundle
        self.reason = reason


class PolicyError(ConfigurationError):
    """A policy file or reason catalogue is wrong; `where` is the path to it, such as `rules[2].when`."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.where = where
        self.reason = reason
