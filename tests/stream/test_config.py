"""riskstream.toml: every mistake names the setting and the fix."""

from __future__ import annotations

import pytest

from features.core.errors import ConfigurationError
from stream.cli.app import run
from stream.settings.config import load
from stream.settings.training import load_training

WRONG = {
    "[wrker]\nx = 1": "`wrker` is no setting; did you mean `worker`?",
    "[worker]\nbatchsize = 3": "`worker.batchsize` is no setting; did you mean `worker.batch_size`?",
    "[worker]\nbatch_size = 'many'": "worker.batch_size: expected a whole number, got text",
    "[worker]\nbatch_size = 0": "worker.batch_size: expected a whole number >= 1",
    "[worker]\nflush_interval_ms = 5000": "worker.flush_interval_ms: expected a whole number <= 2000",
    "[worker]\ndelivery = 'twice'": "worker.delivery: invalid enum value 'twice'; one of exactly_once, at_least_once",
    "[redis]\nurl = 'localhost:6379'": "redis.url: expected one of redis://",
    "[redis]\nsentinel = {service = 'm'}": "`redis.sentinel.nodes` is missing",
    "[redis]\nsentinel = {servce = 'm'}": "did you mean `redis.sentinel.service`?",
    "[redis]\ncluster = ['a:1']\nsentinel = {service = 'm', nodes = ['a:1']}": "exclude each other; keep one",
    "[redis]\npassword = '${RS_TEST_UNSET}'": "redis.password: the environment has no RS_TEST_UNSET; export",
    "[redis]\npassword_file = 'nowhere'": "redis.password_file: ",
    "[kafka.properties]\n'sasl.password_file' = 'nowhere'": "kafka.properties.sasl.password_file: ",
    "[models]\nroutes = {transactions = 'fraud'}": "'fraud' names no version; write NAME@ALIAS",
    "[profiles.applicant]\nfiel = 'x'": "did you mean `profiles.applicant.file`?",
    "[topics]\nalerts = 'a'\ndead_letters = 'a'": "topics.dead_letters and topics.alerts are both 'a'",
    "[project\n": "riskstream.toml:1: not TOML",
    "[api]\nprot = 8081": "`api.prot` is no setting; did you mean `api.port`?",
    "[api]\nport = 'http'": "api.port: expected a whole number, got text",
    "[api]\njwks_file = 'keys.json'": "api.jwks_file needs api.jwt_issuer and api.jwt_audience too",
    "[api]\ntls_cert_file = 'cert.pem'": "api.tls_cert_file and api.tls_key_file go together",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_mistake_names_setting_and_fix(tmp_path, text):
    file = tmp_path / "riskstream.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load(file)
    assert str(file) in str(caught.value)
    assert WRONG[text] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_file_at_all(tmp_path):
    with pytest.raises(ConfigurationError, match="riskstream init DIR"):
        load(tmp_path / "riskstream.toml")


def test_an_empty_file_has_all_defaults(tmp_path):
    (tmp_path / "riskstream.toml").write_text("")
    config = load(tmp_path / "riskstream.toml")
    assert config.worker.delivery == "exactly_once"
    assert config.kafka.group_id == config.project.name
    assert config.resolve("registry") == str(tmp_path / "registry")
    assert config.resolve("s3://bucket/models") == "s3://bucket/models"
    assert config.resolve("env:KEY") == "env:KEY"


def test_environment_files_and_passed_through_properties(tmp_path, monkeypatch):
    (tmp_path / "secret").write_text("hush\n")
    file = tmp_path / "riskstream.toml"
    file.write_text("""
        [kafka]
        bootstrap_servers = "${RS_TEST_BROKERS}"
        properties = {"security.protocol" = "SASL_SSL", "sasl.password_file" = "secret", "socket.timeout.ms" = 9}
        group_id = "$${kept}"
        [redis]
        password = "${RS_TEST_UNSET:-fallback}"
        [worker]
        ordinal = "${RS_TEST_ORDINAL}"
    """)
    monkeypatch.setenv("RS_TEST_BROKERS", "b1:1,b2:2")
    monkeypatch.setenv("RS_TEST_ORDINAL", "3")
    config = load(file)
    assert config.kafka.client_properties() == {
        "bootstrap.servers": "b1:1,b2:2",
        "security.protocol": "SASL_SSL",
        "sasl.password": "hush",
        "socket.timeout.ms": 9,
    }
    assert (config.kafka.group_id, config.redis.password, config.worker.ordinal) == ("${kept}", "fallback", 3)


def test_secrets_are_not_shown(tmp_path):
    file = tmp_path / "riskstream.toml"
    file.write_text(
        "[redis]\npassword = 'hush'\nurl = 'redis://u:hush@h:1/0'\n[kafka.properties]\n'sasl.password' = 'hush'"
    )
    assert "hush" not in repr(load(file))


def test_doctor_reports_training_settings(tmp_path, capsys):
    (tmp_path / "riskstream.toml").write_text("[train.data]\nlable = 'x'")
    assert run(["doctor", "--config", str(tmp_path / "riskstream.toml")]) == 1
    assert "`train.data.lable` is no setting; did you mean `train.data.label" in capsys.readouterr().out


def test_train_reads_the_projects_table(tmp_path):
    file = tmp_path / "riskstream.toml"
    file.write_text("[train]\nreport = 'reports'\n[train.models.fraud]\nseed = 3\n[models]\nregistry = 'r'")
    settings = load_training(file)
    assert (settings.report, settings.models["fraud"].seed) == ("reports", 3)
    load(file)
