"""Policies: what is decided, for whom, and which mistakes in the file are found."""

from __future__ import annotations

import os
import re

import numpy as np
import pytest

from features.core.errors import ConfigurationError
from models.bundles.bundle import LoadedModel
from models.decision.policy import load_policy, policy_version
from tests.models import small

HEAD = "[sources.payments]\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return small.model(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def load(tmp_path):
    def made(text: str):
        file = tmp_path / "policy.toml"
        file.write_text(text)
        return load_policy(file, small.plan())

    return made


@pytest.fixture(scope="module")
def features():
    return small.Rows(1000).matrix()


@pytest.fixture(scope="module")
def score(model, features):
    return model.score(features)


def test_thresholds_by_hand(load, features, score, model):
    decided = load(HEAD + "review = 0.4\ndecline = 0.8\n").decide(features, score, model)
    assert (decided.decision == (score >= 0.4).astype(int) + (score >= 0.8)).all()
    assert (decided.alert == (score >= 0.4)).all()
    assert (decided.threshold == 0.4).all()
    assert decided.mode == "live"
    assert decided.model == model.version


def test_threshold_named_by_the_bundle(load, features, score, model):
    policy = load(HEAD + 'review = "cheapest"\n')
    policy.check_model("payments", model)
    assert (policy.decide(features, score, model).alert == (score >= 0.6)).all()
    with pytest.raises(ConfigurationError, match="no threshold `dearest`; it has cheapest"):
        load(HEAD + 'decline = "dearest"\n').check_model("payments", model)


def test_threshold_by_cost(load, features, score, model):
    decided = load(HEAD + "review = { cost = 0.2, loss_share = 0.5, loss = 1.0 }\n").decide(
        features, score, model
    )
    amount = features.batch.columns["amount"]
    loss = np.where(amount > 0, amount * 0.5, 1.0)
    assert (decided.alert == (score >= 0.2 / loss)).all()
    assert decided.alert.any()


def test_segments_take_the_first_that_fits(load, features, score, model):
    decided = load(
        HEAD + "review = 0.9\n"
        '[[sources.payments.segments]]\nname = "web"\nwhen = "channel = \'web\'"\nreview = 0.2\n'
        '[[sources.payments.segments]]\nname = "any"\nwhen = "channel IS NOT NULL"\nreview = 0.5\ndecline = 0.7\n'
    ).decide(features, score, model)
    channel = np.array([c or "" for c in features.batch.columns["channel"]])
    expected = np.select([channel == "web", channel == "shop"], [0.2, 0.5], 0.9)
    assert (decided.threshold == expected).all()
    assert (decided.decision[channel == "web"] < 2).all()
    assert ((decided.decision == 2) == ((channel == "shop") & (score >= 0.7))).all()


RULES = """
[sources.payments]
review = 0.5
decline = 0.9
[[sources.payments.rules]]
name = "trusted"
when = "amount < 0"
action = "approve"
priority = 10
[[sources.payments.rules]]
name = "risky"
when = "amount > 0.5 AND score > 0.1"
action = "review"
text = "a large amount"
[[sources.payments.rules]]
name = "seen"
when = "n_of_nothing IS NULL OR exposure > -100"
action = "flag"
[[sources.payments.lists]]
name = "stolen"
column = "card"
values = ["c1", "c2"]
action = "decline"
"""


def test_rules_lists_and_priorities(load, features, score, model):
    decided = load(RULES.replace("n_of_nothing", "n")).decide(features, score, model)
    amount = features.batch.columns["amount"]
    stolen = np.isin(features.batch.columns["card"], ["c1", "c2"])
    expected = (score >= 0.5).astype(int) + (score >= 0.9)
    expected = np.where((amount > 0.5) & (score > 0.1), np.maximum(expected, 1), expected)
    expected = np.where(amount < 0, 0, expected)
    expected = np.where(stolen, 2, expected)
    assert (decided.decision == expected).all()
    for row in range(len(features)):
        hits = decided.rules_hit[row]
        assert ("trusted" in hits) == (amount[row] < 0)
        assert ("stolen" in hits) == stolen[row]
        assert "seen" in hits
    row = int(np.flatnonzero(stolen & (amount < 0))[0])
    assert decided.reasons[row][0].code == "stolen"
    assert decided.reasons[row][0].feature == ""
    risky = int(np.flatnonzero((decided.decision == 1) & (score < 0.5))[0])
    assert decided.reasons[risky][0].text == "a large amount"


def test_list_files_and_their_hash(load, tmp_path, features, score, model):
    (tmp_path / "cards.txt").write_text("# stolen\nc7\n\n c8 \n")
    text = (
        HEAD
        + '[[sources.payments.lists]]\nname = "stolen"\ncolumn = "card"\nfile = "cards.txt"\naction = "decline"\n'
    )
    policy = load(text)
    decided = policy.decide(features, score, model)
    assert ((decided.decision == 2) == np.isin(features.batch.columns["card"], ["c7", "c8"])).all()
    assert policy_version(tmp_path / "policy.toml") == policy.version == decided.policy
    (tmp_path / "cards.txt").write_text("c9\n")
    assert policy_version(tmp_path / "policy.toml") != policy.version


def test_severity_by_score_and_exposure(load, features, score, model):
    text = HEAD + "review = 0.3\n[sources.payments.severity]\nmedium = 0.5\nhigh = 0.7\ncritical = 0.9\n"
    decided = load(text + "exposure = { high = 2.0 }\n").decide(features, score, model)
    expected = 1 + (score >= 0.5) + (score >= 0.7).astype(int) + (score >= 0.9)
    expected = np.where(features.batch.columns["amount"] >= 2.0, np.maximum(expected, 3), expected)
    assert (decided.severity == np.where(score >= 0.3, expected, 0)).all()


def test_suppression_loses_nothing(load, features, score, model):
    text = HEAD + 'review = 0.5\n[sources.payments.suppress]\nentity = "card"\nperiod = "1h"\n'
    policy = load(text)
    decided = policy.decide(features, score, model)
    assert ((decided.decision > 0) == (score >= 0.5)).all()
    assert (decided.alert ^ decided.suppressed)[score >= 0.5].all()
    assert decided.suppressed.any()
    assert not decided.suppressed[score < 0.5].any()
    cards, times = np.array(features.batch.columns["card"]), features.batch.event_time
    for card in set(cards.tolist()):
        assert (np.diff(times[decided.alert & (cards == card)]) >= 3_600_000_000).all()
    again = policy.decide(features, score, model)
    assert (again.alert == decided.alert).all()


def test_release_is_the_same_every_time_and_about_its_share(load, model):
    features = small.Rows(20_000).matrix()
    score = model.score(features)
    text = HEAD + 'decline = 0.5\n[sources.payments.release]\nshare = 0.1\nsalt = "2026"\n'
    decided = load(text).decide(features, score, model)
    share = decided.released.sum() / (score >= 0.5).sum()
    assert 0.08 < share < 0.12
    assert (decided.decision[decided.released] == 0).all()
    assert not decided.alert[decided.released].any()
    assert (load(text).decide(features, score, model).released == decided.released).all()
    other = load(text.replace("2026", "2027")).decide(features, score, model)
    assert (other.released != decided.released).any()


def test_block_lists_are_never_released(load, features, score, model):
    text = HEAD + "decline = 0.5\n[sources.payments.release]\nshare = 1.0\n"
    text += (
        '[[sources.payments.lists]]\nname = "stolen"\ncolumn = "card"\nvalues = ["c1"]\naction = "decline"\n'
    )
    decided = load(text).decide(features, score, model)
    assert ((decided.decision == 2) == (np.array(features.batch.columns["card"]) == "c1")).all()


def test_budget_counts_an_event_once(load, model):
    text = HEAD + "[sources.payments.budget]\nalerts_per_day = 20\novershoot = 0.0\nstart = 0.7\n"
    policy, features = load(text), small.Rows(1440).matrix()
    score = model.score(features)
    first = policy.decide(features, score, model)
    assert first.alert.sum() <= 20
    policy.decide(features, score, model)
    question = policy.decide(small.Rows(100, start=1440).matrix(), score[:100], model, remember=False)
    assert len(question) == 100
    day_two = small.Rows(1440, start=1440, seed=9).matrix()
    assert 10 <= policy.decide(day_two, model.score(day_two), model).alert.sum() <= 20


def test_reload_keeps_what_still_fits(load, features, score, model):
    text = HEAD + 'review = 0.5\n[sources.payments.suppress]\nentity = "card"\nperiod = "1000d"\n'
    old = load(text)
    old.decide(features, score, model)
    later = small.Rows(500, start=1000).matrix()
    new = load(text.replace("0.5", "0.4"))
    new.adopt(old)
    cards = set(np.array(features.batch.columns["card"])[score >= 0.5].tolist())
    decided = new.decide(later, model.score(later), model)
    known = np.isin(np.asarray(later.batch.columns["card"]), list(cards))
    assert not (decided.alert & known & (decided.decision == 1)).any()
    fresh = load(text.replace("1000d", "999d"))
    fresh.adopt(old)
    assert fresh.decide(later, model.score(later), model).alert.any()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "says nothing about `payments`|`sources` is missing"),
        ("[sources.payments]\nreviews = 1", "payments.reviews` is no setting; did you mean"),
        ("[sources.loans]\n[sources.payments]", "no such scored source; known: payments"),
        (HEAD + "review = 1.5", "no probability"),
        (HEAD + "review = ]", "not TOML"),
        (HEAD + '[[sources.payments.rules]]\nname = "a"\nwhen = "amonut > 1"\naction = "review"', "amonut"),
        (HEAD + '[[sources.payments.rules]]\nname = "a"\nwhen = "amount + 1"\naction = "review"', "a condition"),
        (HEAD + '[[sources.payments.rules]]\nname = "a"\nwhen = "amount > 1"\naction = "stop"', "action"),
        (HEAD + '[[sources.payments.lists]]\nname = "a"\ncolumn = "c"\nvalues = ["x"]\naction = "flag"', "column `c`"),
        (HEAD + '[[sources.payments.lists]]\nname = "a"\ncolumn = "card"\nfile = "no"\naction = "decline"', "lists"),
        (HEAD + '[sources.payments.suppress]\nentity = "shop"\nperiod = "1h"', "no entity `shop`"),
        (HEAD + '[sources.payments.suppress]\nentity = "card"\nperiod = "soon"', "not a duration"),
        (HEAD + "review = 0.5\n[sources.payments.budget]\nalerts_per_day = 5", "take `review` out"),
        (HEAD + "[sources.payments.adverse_action]\nmost = 5", "<= 4"),
        ('[reasons]\ncatalogue = "no.toml"\n' + HEAD, "no.toml"),
    ],
)  # fmt: skip
def test_mistakes_say_where(load, text, reason):
    with pytest.raises(ConfigurationError, match=reason):
        load(text)


def test_protected_features_are_no_reasons(load, features, score, model):
    policy = load(HEAD + "review = 0.5\n")
    forbidden = policy._deciders["payments"].limits.forbidden
    assert forbidden == {"age", "age_mean_1d_by_card"}
    allowed = load('[reasons]\nallow_protected = ["age"]\n' + HEAD)
    assert allowed._deciders["payments"].limits.forbidden == frozenset()


class CountingRunner:
    def __init__(self, runner):
        self.runner, self.rows = runner, 0

    def run(self, inputs):
        self.rows += len(inputs)
        return self.runner.run(inputs)


def test_only_alerts_are_explained(load, features, score, model):
    counting = CountingRunner(model.runner)
    watched = LoadedModel(model.manifest, model.version, counting)
    load(HEAD + "review = 1.0\n").decide(features, np.minimum(score, 0.9), watched)
    assert counting.rows == 0
    decided = load(HEAD + "review = 0.8\n").decide(features, score, watched)
    assert counting.rows == 3 * decided.alert.sum()


def test_a_question_may_bring_less_than_an_event(load, model):
    text = (
        RULES.replace("n_of_nothing", "n") + '[sources.payments.suppress]\nentity = "card"\nperiod = "1h"\n'
    )
    text += '[[sources.payments.segments]]\nname = "web"\nwhen = "channel = \'web\'"\nreview = 0.1\n'
    asked = small.Rows(100).matrix()
    score = model.score(asked)
    for name in ("card", "channel", "age"):
        del asked.batch.columns[name]
    decided = load(text).decide(asked, score, model, remember=False)
    assert not decided.suppressed.any()
    assert (decided.threshold == 0.5).all()
    assert all("stolen" not in names for names in decided.rules_hit.values())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{value:{feature.__class__}}", "a format cannot hold another field"),
        ("{value:{baseline}}", "a format cannot hold another field"),
        ("{value:>2000000000}", "width and precision are at most 100"),
        ("{value:.2000000000f}", "width and precision are at most 100"),
        ("{value.__class__}", "unknown {value.__class__}"),
        ("{value[0]}", "unknown"),
        ("{}", "unknown"),
        ("{value:q}", "Unknown format code"),
        ("{value", "expected '}'"),
        ("x" * 1_001, "at most 1,000 are taken"),
    ],
    ids=lambda value: value[:24],
)
def test_a_text_of_reasons_that_could_fail_on_an_alert_is_refused_at_load(load, tmp_path, text, reason):
    (tmp_path / "reasons.toml").write_text(f"[amount]\ntext = {text!r}\n")
    with pytest.raises(ConfigurationError, match=re.escape(reason)):
        load('[reasons]\ncatalogue = "reasons.toml"\n' + HEAD + "review = 0.5\n")


LISTED = HEAD + 'review = 0.5\n[[sources.payments.lists]]\nname = "l"\ncolumn = "card"\naction = "decline"\n'


@pytest.mark.parametrize("file", ["/etc/hostname", "../other.txt", "link.txt", "folder/../../other.txt"])
def test_a_list_outside_the_policys_folder_is_not_read(load, tmp_path, file):
    (tmp_path.parent / "other.txt").write_text("c1\n")
    (tmp_path / "link.txt").symlink_to(tmp_path.parent / "other.txt")
    with pytest.raises(ConfigurationError, match="is outside the folder of the policy"):
        load(LISTED + f'file = "{file}"\n')


def test_a_list_that_is_no_file_is_not_waited_for(load, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigurationError, match="not a regular file"):
        load(LISTED + 'file = "pipe"\n')


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_the_first_line_of_a_list_counts_whatever_mark_the_editor_puts_before_it(load, tmp_path, mark):
    (tmp_path / "cards.txt").write_bytes(mark + "c7\r\nc8\r\n# c9\r\nZürich\r\n".encode())
    policy = load(LISTED + 'file = "cards.txt"\n')
    ((_, values),) = policy._deciders["payments"].rules.lists
    assert values == {"c7", "c8", "Zürich"}


def test_a_list_in_another_encoding_is_one_line_that_names_file_and_line(load, tmp_path):
    (tmp_path / "cards.txt").write_bytes("c7\nZürich\n".encode("latin-1"))
    with pytest.raises(
        ConfigurationError, match=r"cards\.txt:2: byte 0xfc is not UTF-8; save the file as UTF-8"
    ):
        load(LISTED + 'file = "cards.txt"\n')
