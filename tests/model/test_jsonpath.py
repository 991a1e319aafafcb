"""The way to a number in a JSON document."""

import pytest

from reconciler.model.jsonpath import JsonPath

DOCUMENT = {"a": {"b": [10, {"c d": 20, "x.y": 30}], "": 1}, "n": None, "list": [1, 2, 3], "0": "zero", "ü-1": 7}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("a.b[0]", 10),
        ("$.a.b[0]", 10),
        ("$", DOCUMENT),
        ("a.b[-1]['c d']", 20),
        ('a.b[1]["x.y"]', 30),
        ("a['']", 1),
        ("n", None),
        ("list.length()", 3),
        ("list[0]", 1),
        ("a.length()", 2),
        ("$.length()", 5),
        ("0", "zero"),
        ("ü-1", 7),
    ],
)
def test_a_way_leads_to_a_value(path, value):
    assert JsonPath.parse(path).find(DOCUMENT) == value


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("a.x", 'has no "x" in a'),
        ("x.y", 'has no "x" in the answer'),
        ("a.b[7]", 'has no "7" in a.b'),
        ("a.b.c", 'has no "c" in a.b'),
        ("a[0]", 'has no "0" in a'),
        ("n.x", 'has no "x" in n'),
        ("list[0].x", 'has no "x" in list[0]'),
        ("0.length()", "has no length there"),
    ],
)
def test_where_the_way_ends_is_told(path, complaint):
    with pytest.raises(LookupError) as raised:
        JsonPath.parse(path).find(DOCUMENT)
    assert raised.value.args[0] == complaint


@pytest.mark.parametrize(
    "path", ["a[", "a[x]", "a..b", "a[*]", "$..b", "a[?(@.x)]", "a.sum()", "a b", "a['x", "[1:2]", "a."]
)
def test_other_paths_are_refused(path):
    with pytest.raises(ValueError, match="cannot be read from"):
        JsonPath.parse(path)
