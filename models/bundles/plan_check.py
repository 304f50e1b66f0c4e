"""Does a model fit the project's plan? Fingerprint, source, inputs, protected attributes."""

from __future__ import annotations

import polars as pl

from features.definitions.naming import feature_name
from features.definitions.plan import Plan
from models.bundles.signing import Trust
from models.core.errors import BundleRefused
from models.core.manifest import Manifest


def check(manifest: Manifest, plan: Plan, trust: Trust, where: str) -> None:
    """Refuse a model made for another plan, or one that reads what it may not."""
    if manifest.plan != plan.fingerprint:
        raise BundleRefused(
            where,
            f"made for feature plan {manifest.plan}, this project's plan is {plan.fingerprint}: "
            "train it again, or go back to the definitions that it was trained with",
        )
    reader = plan.readers.get(manifest.source)
    if reader is None:
        raise BundleRefused(where, f"scores source `{manifest.source}`, which the plan does not score")
    fields = {field.name: field.dtype for field in plan.sources[manifest.source].fields}
    numbers = {*reader.names, *(name for name, dtype in fields.items() if dtype != "string")}
    absent = [name for name in manifest.numeric if name not in numbers]
    texts = {*reader.text_names, *fields}
    absent += [name for name in manifest.categorical if name not in texts and name not in numbers]
    if absent:
        raise BundleRefused(where, f"the plan has no feature {', '.join(absent)} for `{manifest.source}`")
    forbidden = protected_features(plan, manifest.source, trust.allow_protected)
    taken = [name for name in (*manifest.numeric, *manifest.categorical) if name in forbidden]
    if taken:
        raise BundleRefused(
            where, f"reads {', '.join(taken)}: protected, and not among the attributes allowed by name"
        )


def protected_features(plan: Plan, source: str, allowed: frozenset[str] = frozenset()) -> frozenset[str]:
    """Protected columns, and every feature of a source that is made from one."""
    protected = {name for name in plan.definitions.protected if name not in allowed}
    reader = plan.readers[source]
    for view in plan.definitions.views:
        for aggregation in view.aggregations:
            conditions = [sql for sql in (aggregation.where or view.where, aggregation.of) if sql]
            reads = {aggregation.column, *(name for sql in conditions for name in _columns(sql))}
            if protected & reads:
                names = {feature_name(view, aggregation, w) for w in aggregation.windows or view.windows}
                protected |= names - allowed
    for profile in reader.profiles:
        protected |= {
            f"{field.name}_of_{profile.entity}"
            for field in profile.fields
            if field.name in protected and f"{field.name}_of_{profile.entity}" not in allowed
        }
    for derived in reader.derived:
        if protected.intersection(_columns(derived.sql)) and derived.name not in allowed:
            protected.add(derived.name)
    return frozenset(protected)


def _columns(sql: str) -> list[str]:
    return pl.sql_expr(sql).meta.root_names()
