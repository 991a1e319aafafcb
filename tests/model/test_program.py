"""The spec of a Program: its defaults, and what follows from several fields together."""

import pytest
from pydantic import ValidationError

from reconciler.model.contacts import Address
from reconciler.model.parts import Limit
from reconciler.model.program import ProgramSpec
from reconciler.model.state import NEVER
from reconciler.model.support import SENTENCES
from support.reading import program, refusals


def test_what_is_not_written_has_the_defaults_of_the_contract():
    spec = program("")
    assert spec.replicas == 1
    assert spec.suspend is False
    assert spec.run_once is False
    assert spec.follow_links is True
    assert spec.umask == 0o022
    assert spec.nice == 0
    assert spec.stdin == "none"
    assert spec.restart_policy == "Always"
    assert spec.success_codes == {0}
    assert spec.success_signals == frozenset()
    backoff = spec.restart_backoff
    assert (backoff.initial, backoff.factor, backoff.max, backoff.jitter, backoff.reset_after) == (1, 2, 300, 0.1, 60)
    assert spec.min_restart_interval == 0.1
    assert spec.max_lifetime is None
    assert spec.stop_signal_number == 15
    assert spec.stop_scope == "process"
    assert spec.progress_deadline == 600
    assert spec.revision_history_limit == 10
    logs = spec.logs
    assert (logs.path, logs.stderr, logs.max_size, logs.max_files) == (None, "merged", 10 << 20, 5)
    assert (logs.compress, logs.format, logs.mode) == ("gzip", "raw", 0o640)
    assert spec.process_name == "$(PROGRAM)-$(REPLICA)"
    assert spec.api_access == "none"


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("", 30.0),
        ("runOnce: true", NEVER),
        ("terminationGracePeriod: 5s", 5.0),
        ("terminationGracePeriod: infinity", NEVER),
        ("runOnce: true\nterminationGracePeriod: 0s", 0.0),
    ],
)
def test_run_once_work_is_given_all_the_time_it_needs_unless_told(written, seconds):
    assert program(written).grace_period_seconds == seconds


PROBED = "readinessProbe: {notify: {}}"
EVIDENT = 1.0 if "readinessProbe" in SENTENCES else 0.0  # a probe that has no effect is no evidence


@pytest.mark.parametrize(
    ("written", "seconds"), [("", 1.0), (PROBED, EVIDENT), (f"minReady: 7s\n{PROBED}", 7.0), ("minReady: 0s", 0.0)]
)
def test_without_a_readiness_probe_a_second_of_running_is_the_evidence(written, seconds):
    assert program(written).min_ready_seconds == seconds


def test_exit_codes_and_signals_stand_in_one_list():
    spec = program("successExitCodes: [0, 143, TERM, SIGINT]")
    assert spec.success_codes == {0, 143}
    assert spec.success_signals == {15, 2}


@pytest.mark.parametrize(
    ("written", "replicas", "unavailable", "surge"),
    [
        ("", 1, 1, 0),
        ("", 8, 2, 0),
        ("", 3, 1, 0),
        ("strategy: {maxUnavailable: 0}", 4, 1, 0),
        ("strategy: {maxUnavailable: 0%}", 4, 1, 0),
        ("strategy: {maxUnavailable: 50%}", 5, 2, 0),
        ("strategy: {maxUnavailable: 0, maxSurge: 25%}", 5, 0, 2),
        ("strategy: {maxUnavailable: 0, maxSurge: 1}", 5, 0, 1),
        ("strategy: {type: Recreate}", 5, 1, 0),
        ("sockets: [{name: http, listen: 'tcp://:80'}]", 4, 0, 1),
        ("sockets: [{name: http, listen: 'tcp://:80'}]\nstrategy: {onFailure: Pause}", 4, 0, 1),
        ("sockets: [{name: http, listen: 'tcp://:80'}]\nstrategy: {maxUnavailable: 2}", 4, 2, 0),
        ("sockets: [{name: http, listen: 'tcp://:80'}]\nstrategy: {type: Recreate}", 4, 1, 0),
    ],
)
def test_surge_rounds_up_and_unavailable_down_and_one_of_them_is_never_zero(written, replicas, unavailable, surge):
    spec = program(written)
    assert spec.max_unavailable(replicas) == unavailable == spec.strategy.max_unavailable.resolve(replicas)
    assert spec.max_surge(replicas) == surge


def test_limits_are_one_number_or_two():
    spec = program("limits: {nofile: 5, core: unlimited, as: {soft: 1Gi, hard: unlimited}}")
    assert spec.limits == {"nofile": Limit(5, 5), "core": Limit(-1, -1), "as": Limit(1 << 30, -1)}
    assert refusals("limits: {as: {soft: unlimited, hard: 1Gi}}") == [
        "spec.limits.as: the soft limit must not be above the hard one"
    ]


@pytest.mark.parametrize(
    ("probe", "address"),
    [
        ("{tcpSocket: {port: 80}}", Address("localhost", "80")),
        ("{tcpSocket: {host: db, port: $(PORT)}}", Address("db", "$(PORT)")),
        ("{httpGet: {port: 8080, path: /health}}", Address("localhost", "8080")),
        ("{httpGet: {url: 'http://h/x'}}", Address("h", "80")),
        ("{httpGet: {url: 'https://[::1]:8443/x'}}", Address("::1", "8443")),
        ("{httpGet: {socket: /run/x}}", None),
        ("{exec: {command: [x]}}", None),
        ("{notify: {}}", None),
    ],
)
def test_a_probe_tells_what_address_it_asks(probe, address):
    spec = program(f"readinessProbe: {probe}")
    assert spec.readiness_probe is not None
    assert spec.readiness_probe.address == address


@pytest.mark.parametrize("probe", ["{tcpSocket: {port: 80}}", "{httpGet: {url: 'http://localhost/'}}"])
@pytest.mark.parametrize("listen", ["tcp://:80", "tcp://0.0.0.0:80", "tcp://127.0.0.1:80", "tcp://[::]:80"])
def test_a_probe_that_any_replica_would_answer_is_refused(probe, listen):
    written = f"sockets: [{{name: http, listen: '{listen}'}}]\nlivenessProbe: {probe}"
    assert "any of the 2 replicas would answer" in refusals(f"{written}\nreplicas: 2")[0]
    assert program(written).replicas == 1


def test_a_probe_elsewhere_is_not():
    written = "replicas: 2\nsockets: [{name: http, listen: 'tcp://10.0.0.1:80'}]"
    assert program(f"{written}\nlivenessProbe: {{tcpSocket: {{port: 80}}}}").liveness_probe
    assert program(f"{written}\nlivenessProbe: {{tcpSocket: {{host: 10.0.0.1, port: 81}}}}").liveness_probe


@pytest.mark.parametrize(
    "listen",
    ["http://x", "tcp://x", "tcp://x:0", "tcp://x:65536", "tcp://a b:1", "unix://x", "unix:///x/", "80", "$PORT"],
)
def test_a_socket_listens_at_a_host_and_port_or_at_a_path(listen):
    assert "spec.sockets[0].listen: must" in refusals(f"sockets: [{{name: a, listen: '{listen}'}}]")[0]


def test_a_spec_cannot_be_changed():
    spec = program("")
    with pytest.raises(ValidationError):
        spec.replicas = 2  # type: ignore[misc]


def test_a_spec_may_also_be_made_without_a_file():
    spec = ProgramSpec(command=("a",), working_dir="/", run_once=True)
    assert spec.grace_period_seconds == NEVER
    with pytest.raises(ValidationError, match="only one socket can be stdin"):
        ProgramSpec.model_validate(
            {
                "command": ["a"],
                "workingDir": "/",
                "sockets": [{"name": n, "listen": f"unix:///{n}", "as": "stdin"} for n in "ab"],
            }
        )
