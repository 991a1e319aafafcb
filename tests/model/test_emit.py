"""Status text: whatever is in it, a YAML reader gets the same values back."""

import math
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.emit import to_yaml

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | st.text()
    | st.sampled_from(
        ["on", "No", "~", "1e3", "012", "12:30", "", " x", "a: b", "a #b", "- a", "\ud800", "2001-01-01", "=", "é"]
    )
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(min_size=1), inner, max_size=4)
)


@given(st.dictionaries(st.text(), values, max_size=5))
def test_every_document_is_read_back_as_it_was(document: dict[str, Any]) -> None:
    assert yaml.safe_load(to_yaml(document)) == document


def test_it_looks_as_a_person_would_write_it() -> None:
    status = {
        "kind": "Program",
        "metadata": {"name": "web", "source": "dir:manifests/web.yaml"},
        "status": {
            "replicas": 2,
            "conditions": [{"type": "Available", "status": "True", "message": "2 of 2"}],
            "processes": [{"replica": 0, "lastExit": {"code": 1, "signal": None}, "ready": True}],
            "warnings": [],
        },
    }
    assert to_yaml(status) == (
        "kind: Program\n"
        "metadata:\n"
        "  name: web\n"
        '  source: "dir:manifests/web.yaml"\n'
        "status:\n"
        "  replicas: 2\n"
        "  conditions:\n"
        "  - type: Available\n"
        '    status: "True"\n'
        '    message: "2 of 2"\n'
        "  processes:\n"
        "  - replica: 0\n"
        "    lastExit:\n"
        "      code: 1\n"
        "      signal: null\n"
        "    ready: true\n"
        "  warnings: []\n"
    )


def test_what_is_not_a_number_is_said_in_yaml() -> None:
    assert to_yaml({"a": math.inf, "b": -math.inf, "c": 1e16}) == "a: .inf\nb: -.inf\nc: 1.0e+16\n"
    assert math.isnan(yaml.safe_load(to_yaml({"a": math.nan}))["a"])
