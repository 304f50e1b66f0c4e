"""The common job: what every worker, riskstream and each peer, must compute.

Standard library only, because each peer imports it from its own virtual environment.

A worker reads card transactions in order from one topic, keeps three kinds of state (card,
customer, merchant), computes 24 windowed features and takes the amount as the 25th, scores them with
a 100-tree random forest and writes an alert for each score above a threshold. A window w covers event
times in (t - w, t]; the current event is included. The standard deviation (sample) of one event is 0.
"""

from __future__ import annotations

DAY_MS = 86_400_000
WINDOWS: tuple[tuple[str, int], ...] = (
    ("1h", 3_600_000),
    ("1d", DAY_MS),
    ("7d", 7 * DAY_MS),
    ("30d", 30 * DAY_MS),
)
WINDOWS_MS: tuple[int, ...] = tuple(length for _, length in WINDOWS)
HORIZON_MS = 30 * DAY_MS

ENTITIES: dict[str, tuple[str, ...]] = {
    "card": ("count", "mean", "max"),
    "customer": ("count", "std"),
    "merchant": ("mean",),
}
AMOUNT = "amount"


def feature_name(entity: str, function: str, window: str) -> str:
    """The name of one windowed feature, by riskstream's naming rule."""
    column = "transactions" if function == "count" else AMOUNT
    return f"{column}_{function}_{window}_by_{entity}"


FEATURES: tuple[str, ...] = (
    AMOUNT,
    *(
        feature_name(entity, function, window)
        for entity, functions in ENTITIES.items()
        for function in functions
        for window, _ in WINDOWS
    ),
)
