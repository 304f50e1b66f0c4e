"""How features are named, so that a name tells what it is: `amount_mean_7d_by_card`."""

from __future__ import annotations

import re

from features.core.errors import DefinitionError
from features.definitions.spec import Aggregation, FeatureView

RESERVED = ("event_id", "event_time", "duplicate", "late")
"""Columns that every materialized row has beside the event's own."""

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_identifier(name: str, path: str) -> None:
    """Names stand in SQL, files and metrics: letters, digits and underscores only."""
    if _IDENTIFIER.fullmatch(name) is None:
        hint = "; give the name on the wire as `alias`" if ".fields" in path else ""
        raise DefinitionError(path, f"`{name}` is not a name: use a-z, A-Z, 0-9 and _ only{hint}")


def feature_name(view: FeatureView, aggregation: Aggregation, window: str) -> str:
    """The name of one window of an aggregation, by rule or by its `name` template.

    >>> view = FeatureView(name="spend", source="tx", entity="card", aggregations=(), windows=("7d",))
    >>> feature_name(view, Aggregation(function="mean", column="amount"), "7d")
    'amount_mean_7d_by_card'
    >>> feature_name(view, Aggregation(function="count"), "7d")
    'tx_count_7d_by_card'
    >>> feature_name(view, Aggregation(function="count", name="small_{window}"), "7d")
    'small_7d'
    """
    if aggregation.name is not None:
        return aggregation.name.replace("{window}", window)
    subject = view.name if aggregation.function == "share" else aggregation.column or view.source
    return f"{subject}_{aggregation.function}_{window}_by_{view.entity}"


def profile_feature_name(field: str, entity: str) -> str:
    """The name of a profile's field.

    >>> profile_feature_name("income", "applicant")
    'income_of_applicant'
    """
    return f"{field}_of_{entity}"
