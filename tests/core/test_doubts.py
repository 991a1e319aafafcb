"""What is doubtful in a spec, as far as nobody has to ask the host."""

from typing import Any

import pytest

from reconciler.core.doubts import doubts
from reconciler.model.manifest import program_from_canonical


def told(**fields: Any) -> list[str]:
    spec = program_from_canonical({"command": ["run"], "workingDir": "/srv", **fields})
    return [f"{doubt}".partition(" and stays")[0] for doubt in doubts("web", spec)]


UNKNOWN = "is not a variable of the process's environment"
SECRET = ["command: holds a value from a file, and every user of this host can see it in `ps`"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"command": ["run", "--port=$(PORT)"]}, "command[1]"),
        ({"env": {"URL": "http://$(PORT)"}}, "env.URL"),
        ({"workingDir": "/srv/$(PORT)"}, "workingDir"),
        ({"processName": "web-$(PORT)"}, "env.SUPERVISOR_PROCESS_NAME"),
        ({"logs": {"path": "/var/log/$(PORT)"}}, "logs.path"),
        ({"logs": {"stderr": "/var/log/$(PORT)"}}, "logs.stderr"),
    ],
)
def test_a_name_that_nobody_knows_is_told_wherever_names_are_expanded(fields: dict[str, Any], field: str) -> None:
    assert told(**fields) == [f"{field}: $(PORT) {UNKNOWN}"]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"command": ["run", "$(HOME) $(PATH) $(PROGRAM) $(REPLICA+3000) $(REPLICAS) $(RECONCILER_REVISION)"]},
        {"command": ["run", "$$(PORT)"]},
        {"command": ["run", "$(PORT)"], "env": {"PORT": "80"}},
        {"command": ["run", "$(PORT)"], "inheritEnv": ["PORT"]},
        {"command": ["run", "$(PORT)"], "envFrom": [{"file": "/etc/env"}]},
        {"logs": {"path": "$(LOGS)/x.log"}, "inheritEnv": ["LOGS"]},
        {"logs": {"path": "/x.log"}},
        {"env": {"KEY": {"fromFile": "/k"}, "URL": "db://$(KEY)"}},
    ],
)
def test_what_is_known_or_what_only_the_host_can_know_is_not(fields: dict[str, Any]) -> None:
    assert told(**fields) == []


def test_a_value_from_a_file_in_the_command_line_is_told_without_the_file() -> None:
    key = {"KEY": {"fromFile": "/run/secrets/key"}}
    assert told(command=["run", "$(KEY)"], env=key) == SECRET
    assert told(command=["run", "$(URL)"], env={**key, "URL": "db://$(KEY)"}) == SECRET


def test_a_log_path_that_leads_nowhere_is_told() -> None:
    found = told(logs={"path": "$(PROGRAM)/x.log"})
    assert found == ["logs.path: $(PROGRAM)/x.log does not expand to an absolute path; the usual one is used"]
