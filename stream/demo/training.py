"""Makes the demo's project: history, profiles, two trained and signed models, a policy. Cached by its inputs.

History runs through the same plan and kernel as live events (features/offline/materialize.py). Models learn from its
older part; thresholds are chosen on the newer part, which they have not seen; the live stream comes after both.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from features.definitions.compile import compile_plan
from features.definitions.plan import Plan
from features.definitions.project import load_definitions
from features.profiles.joins import FrameProfiles
from stream.demo.bank.days import history
from stream.demo.bank.loan_days import REPAYMENT_DAYS, profiles
from stream.demo.bank.world import make_world, start_of
from stream.demo.processes import compiling

PROJECT = Path(__file__).with_name("project")
HISTORY_DAYS = 36
LOAN_HISTORY_DAYS = 300
WARM_DAYS = 8
HELD_OUT_DAYS = 9
HONEST_ROWS = 12_000
Progress = Callable[[str, int, int], None]
"""Called with what is being done, and how many of how many parts are done."""


@dataclass(frozen=True)
class Task:
    """One model: its source, its label's kinds, and the days that it learns from and is assessed on."""

    model: str
    source: str
    inputs: tuple[str, ...]
    learn: tuple[int, int]
    assess: tuple[int, int]


FRAUD = Task(
    "fraud",
    "transactions",
    ("transactions", "chargebacks"),
    (WARM_DAYS - HISTORY_DAYS, -9),
    (-HELD_OUT_DAYS, -2),
)
DEFAULT = Task(
    "default",
    "applications",
    ("applications", "repayments"),
    (30 - LOAN_HISTORY_DAYS, -max(REPAYMENT_DAYS) - 60),
    (-max(REPAYMENT_DAYS) - 60, -max(REPAYMENT_DAYS)),
)


def cache_dir() -> Path:
    """`$XDG_CACHE_HOME/riskstream/demo`, in the home directory by default."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "riskstream" / "demo"


def prepare(seed: int, progress: Progress) -> Path:
    """The project's directory, made unless it was made before from the same seed and code."""
    folder = cache_dir() / f"seed-{seed}-{_inputs_hash(seed)}"
    if folder.exists():
        return folder
    cache_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="making-", dir=cache_dir()) as scratch:
        making = Path(scratch) / "project"
        (making / "history").mkdir(parents=True)
        for name in ("definitions.py", "riskstream.toml", "reasons.toml"):
            shutil.copy(PROJECT / name, making)
        _make(making, seed, progress)
        with suppress(FileExistsError):  # another demo was quicker
            making.rename(folder)
    return folder


def _inputs_hash(seed: int) -> str:
    """Changes when the simulated bank, the definitions, the engine or the training change."""
    root = Path(__file__).parents[2]
    code = [*(root / "features").rglob("*.py"), *(root / "models").rglob("*.py")]
    code += [*Path(__file__).parent.rglob("*.py"), *PROJECT.glob("*.toml")]
    digest = hashlib.sha256(str(seed).encode())
    for path in sorted(code):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _make(folder: Path, seed: int, progress: Progress) -> None:
    world = make_world(seed)
    progress("inventing five weeks of history", 0, 1)
    recorded = history(world, HISTORY_DAYS, LOAN_HISTORY_DAYS)
    for source, frame in recorded.items():
        frame.drop("kind", strict=False).write_parquet(folder / "history" / f"{source}.parquet")
    people = profiles(world)
    people.write_csv(folder / "applicants.csv")
    progress("inventing five weeks of history", 1, 1)
    definitions = load_definitions(folder / "definitions.py")
    plan = compile_plan(definitions)
    joined = FrameProfiles(plan, {"applicant": people})
    private = _make_key(folder)
    tasks = (FRAUD, DEFAULT)
    frames = [_materialized(folder, task, definitions, joined, progress) for task in tasks]
    with compiling():  # the windows' code is compiled by now; what is left is how state is written
        thresholds = {
            task.model: _train(
                folder, task, plan, _with_label(frame, recorded[task.source]), private, progress
            )
            for task, frame in zip(tasks, frames, strict=True)
        }
    _write_policy(folder, thresholds)


def _make_key(folder: Path) -> Any:
    from models.bundles.signing import new_key, private_key

    private, public = new_key()
    (folder / "demo.pub.pem").write_text(public)
    return private_key(private, "demo")


def _materialized(
    folder: Path, task: Task, definitions: Any, joined: FrameProfiles, progress: Progress
) -> pl.DataFrame:
    from features.offline import materialize

    inputs = {source: folder / "history" / f"{source}.parquet" for source in task.inputs}
    output = folder / "history" / f"{task.source}-features.parquet"
    materialize.run(
        definitions,
        inputs,
        output,
        lambda done, total: progress(f"computing features of {task.source}", done, total),
        source=task.source,
        profiles=joined,
    )
    return pl.read_parquet(output)


def _with_label(frame: pl.DataFrame, recorded: pl.DataFrame) -> pl.DataFrame:
    """Adds `label` and `day`; the simulator's truth stands for what all chargebacks will have said."""
    id_column = recorded.columns[0]
    label = recorded.select(event_id=id_column, label=(pl.col("kind") != "").cast(pl.Int8))
    day = (pl.col("event_time").cast(pl.Int64) - start_of(0)).floordiv(start_of(1) - start_of(0))
    return frame.join(label, on="event_id").with_columns(day=day)


def _train(
    folder: Path, task: Task, plan: Plan, frame: pl.DataFrame, private: Any, progress: Progress
) -> tuple[float, float]:
    """Train, sign, register and promote; returns the thresholds for review and decline."""
    from models.bundles.registry import Registry
    from models.training.settings import DataSettings, ModelSettings, TrainSettings
    from models.training.train import train

    forest = ModelSettings(
        algorithm="forest",
        parameters={"n_estimators": 60, "max_depth": 9, "min_samples_leaf": 4, "max_features": "sqrt"},
    )
    settings = TrainSettings(data=DataSettings(source=task.source), models={task.model: forest})
    path = train(
        _thinned(_days(frame, task.learn)),
        settings,
        task.model,
        plan=plan,
        source=task.source,
        registry=str(folder / "registry"),
        key=private,
        progress=lambda _, done, total: progress(f"training the {task.model} model", done, total),
    )
    Registry(str(folder / "registry")).promote(task.model, Path(path).name)
    return _thresholds(folder, path, settings, plan, task, _days(frame, task.assess))


def _days(frame: pl.DataFrame, days: tuple[int, int]) -> pl.DataFrame:
    return frame.filter(pl.col("day").is_between(*days, closed="left"))


def _thinned(frame: pl.DataFrame) -> pl.DataFrame:
    """All bad rows and a sample of the others: trees learn as much from fewer of these."""
    honest = frame.filter(pl.col("label") == 0)
    if len(honest) > HONEST_ROWS:
        honest = honest.sample(HONEST_ROWS, seed=1)
    return pl.concat([honest, frame.filter(pl.col("label") == 1)]).sort("event_time")


def _thresholds(
    folder: Path, path: str, settings: Any, plan: Plan, task: Task, frame: pl.DataFrame
) -> tuple[float, float]:
    """Review from the best F1 on, decline from where nine of ten are bad, on rows that the model has not seen."""
    from models.bundles import bundle
    from models.bundles.signing import trust
    from models.training.train import prepare as make_dataset

    data = make_dataset(frame, settings, plan, task.source)
    model = bundle.load(path, trust([str(folder / "demo.pub.pem")]), plan)
    score = model.score_inputs(data.inputs)
    order = np.argsort(-score)
    right = np.cumsum(data.label[order])
    alerts = np.arange(1, len(order) + 1)
    f1 = 2 * right / (alerts + right[-1])
    review = float(score[order[int(np.argmax(f1))]])
    sure = np.flatnonzero((right / alerts >= 0.9) & (alerts >= 20))
    decline = float(score[order[sure[-1]]]) if len(sure) else 1.0
    return round(review, 4), round(max(review, decline), 4)


def _write_policy(folder: Path, thresholds: dict[str, tuple[float, float]]) -> None:
    text = (PROJECT / "policy.toml").read_text()
    for model, (review, decline) in thresholds.items():
        text = text.replace(f"{model}_review", str(review)).replace(f"{model}_decline", str(decline))
    (folder / "policy.toml").write_text(text)
