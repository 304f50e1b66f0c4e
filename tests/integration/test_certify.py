"""A certificate over a run with a kill, a new worker and a promotion agrees; whatever is altered is found and named."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.certified import Bank, made_up
from features.core.errors import ConfigurationError
from models.bundles import signing
from stream.cli.app import app
from stream.codecs.messages import RawMessage
from stream.kafka.batches import journal
from stream.replay.certify.certify import CertifyRequest, certify
from stream.replay.certify.report import certificate
from stream.replay.certify.slices import SliceName, Slices

ROWS = 3_000


@pytest.fixture(scope="module")
def bank(
    kafka_server: object, _session_redis: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bank]:
    """What two workers, one killed and one added, published of it, with a promotion on the way."""
    kafka, redis = kafka_server, _session_redis
    made = Bank(
        kafka.bootstrap,  # type: ignore[attr-defined]
        redis.url,  # type: ignore[attr-defined]
        tmp_path_factory.mktemp("bank"),
        kafka.make_topic,  # type: ignore[attr-defined]
        f"certified{os.getpid()}",
        batch=100,
    )
    events = made_up(ROWS)
    try:
        for ordinal in (0, 1):
            made.start(ordinal)
            made.wait_until_assigned(ordinal)
        made.produce(events[: ROWS // 2], bad_every=400)
        made.wait_for(made.sent // 2)
        made.registry.promote("fraud", "2")
        made.kill(1)
        made.start(2)
        made.wait_until_assigned(2)
        made.produce(events[ROWS // 2 :], bad_every=400)
        made.wait_for(made.sent)
    finally:
        made.stop()
    yield made


@pytest.fixture(scope="module")
def outputs(bank: Bank) -> dict[str, list[RawMessage]]:
    """What was published, by topic."""
    return {name: bank.records(name) for name in ("decisions", "alerts", "dead_letters", "journal")}


def altered(message: RawMessage, **changes: object) -> RawMessage:
    """A decision or alert with other values; `features` are changed one by one."""
    value = msgspec.json.decode(message.value or b"")
    features = changes.pop("features", {})
    value["features"] |= features
    return message._replace(value=msgspec.json.encode(value | changes))


def place_of(message: RawMessage) -> str:
    source = msgspec.json.decode(message.value or b"")["source"]
    return f"{source['topic']}[{source['partition']}]@{source['offset']}"


def test_every_decision_and_alert_agrees(bank: Bank, tmp_path: Path) -> None:
    out, key = tmp_path / "certificate.json", str(bank.folder / "signer.pem")
    given = ["certify", "--config", str(bank.config), "--out", str(out), "--key", key]
    ran = CliRunner().invoke(app, given)
    assert ran.exit_code == 0, ran.output
    found = certificate.verify(out, signing.trust([str(bank.folder / "signer.pub.pem")]))
    counts = found.counts
    assert (found.verdict, found.different, counts.missing) == ("agrees", 0, 0)
    assert counts.events == 2 * ROWS == bank.sent
    assert (counts.folded, counts.scored + counts.dead_letters) == (ROWS, ROWS)
    assert counts.dead_letters > 0
    assert counts.decisions_compared == counts.scored
    assert counts.alerts_compared == len(bank.records("alerts")) > 20
    assert {model.version for model in found.models} == {"1", "2"}
    assert len(found.workers) == 3
    entries = [journal.decode(message.value or b"") for message in bank.records("journal")]
    assert sum(len(entry.foreign) for entry in entries) > 100, "others' state was read"
    assert (
        CliRunner().invoke(app, ["certify", "--config", str(bank.config), "--verify", str(out)]).exit_code
        == 0
    )
    out.write_bytes(out.read_bytes().replace(b'"missing": 0', b'"missing": 1'))
    refused = CliRunner().invoke(app, ["certify", "--config", str(bank.config), "--verify", str(out)])
    assert refused.exit_code == 1
    assert "altered" in refused.output


def test_a_range_is_certified_alone(bank: Bank, outputs: dict[str, list[RawMessage]]) -> None:
    scored = sorted(journal.decode(message.value or b"").scored for message in outputs["journal"])
    start, end = (datetime.fromtimestamp(scored[len(scored) * n // 3] / 1e6, UTC).isoformat() for n in (1, 2))
    whole, found = (
        certify(CertifyRequest(config=bank.config)),
        certify(CertifyRequest(config=bank.config, start=start, end=end)),
    )
    assert (found.verdict, found.different) == ("agrees", 0)
    assert 0 < found.counts.decisions_compared < whole.counts.decisions_compared
    assert found.counts.units == sum(start <= _iso(one) < end for one in scored)


def _iso(micros: int) -> str:
    return datetime.fromtimestamp(micros / 1e6, UTC).isoformat()


def test_altered_lost_and_repeated_records_are_found_and_named(
    bank: Bank, outputs: dict[str, list[RawMessage]]
) -> None:
    decisions, alerts, letters = (outputs[name] for name in ("decisions", "alerts", "dead_letters"))
    score = msgspec.json.decode(alerts[3].value or b"")["score"]
    nudged = float(np.nextafter(score, 2))
    copies = {
        "decisions": [
            *decisions[:100],
            altered(decisions[100], features={"transactions_count_1d_by_customer": 99.0}),
            *decisions[101:200],
            *decisions[201:],
            decisions[300],
        ],
        "alerts": [*alerts[:3], altered(alerts[3], score=nudged), *alerts[4:5], *alerts[6:]],
        "dead_letters": letters[1:],
    }
    copied = {name: bank.copy(records, f"altered-{name}") for name, records in copies.items()}
    found = certify(CertifyRequest(config=bank.settings("altered.toml", **copied)))
    headers = dict(letters[0].headers or [])
    at = b"%s[%s]@%s" % tuple(
        headers[f"riskstream-{name}"] or b"" for name in ("topic", "partition", "offset")
    )
    named = {(one.what, one.record, one.place): one for one in found.differences}
    assert found.different == len(named) == 6
    wrong = named["altered", "decision", place_of(decisions[100])]
    assert list(wrong.fields) == ["features.transactions_count_1d_by_customer"]
    assert wrong.cause.startswith("altered")
    one = named["altered", "alert", place_of(alerts[3])]
    assert one.fields == {
        "score": (msgspec.json.encode(nudged).decode(), msgspec.json.encode(score).decode())
    }
    assert ("missing", "decision", place_of(decisions[200])) in named
    assert ("duplicated", "decision", place_of(decisions[300])) in named
    assert ("missing", "alert", place_of(alerts[5])) in named
    assert ("missing", "dead letter", at.decode()) in named


def test_a_lost_unit_of_work_and_an_untrue_stamp_are_named(
    bank: Bank, outputs: dict[str, list[RawMessage]]
) -> None:
    entries = [journal.decode(message.value or b"") for message in outputs["journal"]]
    topic = f"{bank.name}-transactions"
    middle = range(len(entries) // 2, len(entries))
    lost = next(n for n in middle if not entries[n].holdings and topic in dict(entries[n].partitions))
    events = sum(entries[lost].runs[2::3])
    topic = bank.copy([*outputs["journal"][:lost], *outputs["journal"][lost + 1 :]], "journal-lost")
    found = certify(CertifyRequest(config=bank.settings("lost.toml", journal=topic)))
    assert found.verdict == "differs"
    assert (found.counts.missing, found.causes["lost record"]) == (events, events)
    assert set(found.causes) <= {"lost record", "after a lost record"}

    # One of them alone may be older than every window.
    read = max(range(len(entries)), key=lambda n: len(entries[n].foreign))
    # The event before a stamp is one of that key, so that it was read counts; the one at the stamp may be another's.
    untrue = tuple((*of_key, stamp - 1) for *of_key, stamp in entries[read].foreign)
    told = msgspec.json.encode(msgspec.structs.replace(entries[read], foreign=untrue))
    records = [*outputs["journal"]]
    records[read] = records[read]._replace(value=told)
    found = certify(
        CertifyRequest(config=bank.settings("untrue.toml", journal=bank.copy(records, "journal-untrue")))
    )
    assert found.verdict == "differs"
    assert set(found.causes) == {"other owner's state"}

    twice = [*outputs["journal"][: lost + 1], *outputs["journal"][lost:]]
    found = certify(
        CertifyRequest(config=bank.settings("twice.toml", journal=bank.copy(twice, "journal-twice")))
    )
    assert found.causes["repeated"] == found.different == events


def test_a_unit_lost_before_a_worker_took_its_partition_over_is_named(
    bank: Bank, outputs: dict[str, list[RawMessage]]
) -> None:
    topic = f"{bank.name}-transactions"
    entries = [journal.decode(message.value or b"") for message in outputs["journal"]]
    units = sorted(range(len(entries)), key=lambda n: entries[n].scored)
    began = next(n for n in units if entries[n].worker.endswith("-2") and entries[n].holdings)
    held = {(one.topic, one.partition) for one in entries[began].holdings}
    lost = max(
        (n for n in units if not entries[n].holdings and entries[n].scored < entries[began].recovered),
        key=lambda n: (
            any(place in held for place in entries[n].partitions if place[0] == topic),
            entries[n].scored,
        ),
    )
    assert any(place in held for place in entries[lost].partitions)
    copied = bank.copy([*outputs["journal"][:lost], *outputs["journal"][lost + 1 :]], "journal-before")
    found = certify(CertifyRequest(config=bank.settings("before.toml", journal=copied)))
    assert found.causes["lost record"] == found.counts.missing > 0
    assert set(found.causes) <= {"lost record", "after a lost record"}


def test_a_changed_policy_and_a_replaced_model_are_named(bank: Bank) -> None:
    policy = bank.folder / "policy.toml"
    old = policy.with_name("old.toml")
    old.write_text(policy.read_text())
    policy.write_text(old.read_text().replace("review = 0.5", "review = 0.2"))
    try:
        with pytest.raises(
            ConfigurationError, match=r"^policy \w+ decided in this range, but no file given has"
        ):
            certify(CertifyRequest(config=bank.config))
        assert certify(CertifyRequest(config=bank.config, policies=[old])).verdict == "agrees"
    finally:
        policy.write_text(old.read_text())
    first, second = (Path(bank.registry.path("fraud", version)) for version in ("1", "2"))
    away = first.rename(first.with_name("away"))
    second.rename(first)
    try:
        assert any(cause.startswith("model") for cause in certify(CertifyRequest(config=bank.config)).causes)
    finally:
        first.rename(second)
        away.rename(first)


def test_without_the_state_of_others_it_would_not_agree(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    """So what other workers knew did count in this run."""

    def unknown(self: Slices, name: SliceName, stamp: int) -> bytes | None:
        del self, name, stamp
        return None

    monkeypatch.setattr(Slices, "at", unknown)
    assert set(certify(CertifyRequest(config=bank.config)).causes) == {"other owner's state"}
