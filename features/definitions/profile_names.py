"""Which features a profile gives, by name."""

from __future__ import annotations

from features.definitions.naming import profile_feature_name
from features.definitions.spec import Field, Profile


def profile_fields(profile: Profile) -> tuple[Field, ...]:
    """The fields that become features: all but the time of the last update."""
    return tuple(field for field in profile.fields if field.name != profile.updated_at)


def profile_names(profile: Profile) -> dict[str, bool]:
    """Feature names of a profile in order, and whether each is a text.

    A profile with `updated_at` also gives its age in seconds, `{profile}_age_of_{entity}`.
    """
    names = {
        profile_feature_name(f.name, profile.entity): f.dtype == "string" for f in profile_fields(profile)
    }
    if profile.updated_at is not None:
        names[profile_feature_name(f"{profile.name}_age", profile.entity)] = False
    return names
