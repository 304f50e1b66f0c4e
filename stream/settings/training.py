"""Settings of training: a file of their own (`train.toml`), or the table `[train]` of a project's `riskstream.toml`.

The structure belongs to models.training and is imported here only when asked for: serving never learns.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from features.core.toml import convert, read_toml

if TYPE_CHECKING:
    from models.training.settings import TrainSettings
    from stream.settings.config import Config


def load_training(file: Path) -> TrainSettings:
    """What to train, from either kind of file; ConfigurationError names the setting and the fix."""
    from models.training.settings import TrainSettings, load_settings

    tables = read_toml(file)
    if "train" not in tables:
        return load_settings(file)
    return convert(tables["train"], TrainSettings, file, "train")


def check_training(config: Config) -> None:
    """ConfigurationError where the project's table `[train]` has a wrong or an unknown setting."""
    from models.training.settings import TrainSettings

    convert(config.train, TrainSettings, config.path, "train")
