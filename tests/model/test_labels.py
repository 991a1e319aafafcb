"""Label selectors select what kubectl would select, and say where they cannot be read."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.labels import SelectorError, parse_selector

SHOP_WEB = {"app": "shop", "tier": "web"}


@pytest.mark.parametrize(
    ("selector", "labels", "selected"),
    [
        ("", {}, True),
        ("  ", SHOP_WEB, True),
        ("app=shop", SHOP_WEB, True),
        ("app==shop", SHOP_WEB, True),
        ("app = shop", SHOP_WEB, True),
        ("app=blog", SHOP_WEB, False),
        ("app=shop", {}, False),
        ("app!=blog", SHOP_WEB, True),
        ("app!=shop", SHOP_WEB, False),
        ("app!=shop", {}, True),
        ("app", SHOP_WEB, True),
        ("app", {}, False),
        ("!app", SHOP_WEB, False),
        ("!app", {}, True),
        ("! app", {}, True),
        ("app=", {"app": ""}, True),
        ("app=", SHOP_WEB, False),
        ("app=,tier=web", {"app": "", "tier": "web"}, True),
        ("tier in (web, api)", SHOP_WEB, True),
        ("tier in (api)", SHOP_WEB, False),
        ("tier in (api,)", {"tier": ""}, True),
        ("tier notin (api)", SHOP_WEB, True),
        ("tier notin (web,api)", SHOP_WEB, False),
        ("tier notin (web)", {}, True),
        ("app=shop,tier=web", SHOP_WEB, True),
        ("app=shop,tier=api", SHOP_WEB, False),
        ("example.com/app=shop", {"example.com/app": "shop"}, True),
        ("in in (in)", {"in": "in"}, True),
    ],
)
def test_a_selector_selects(selector: str, labels: dict[str, str], selected: bool) -> None:
    assert parse_selector(selector).matches(labels) is selected


@pytest.mark.parametrize(
    ("selector", "said"),
    [
        ("=shop", "column 1: a label expected, not '='"),
        ("app=shop,", "column 10: a label expected at the end"),
        ("app shop", "column 5: ',' or the end expected, not 'shop'"),
        ("tier in web", "column 9: '(' expected, not 'web'"),
        ("tier in (web", "column 13: ')' expected at the end"),
        ("app=a=b", "column 6: ',' or the end expected, not '='"),
        ("app~shop", "column 4: ',' or the end expected, not '~'"),
        ("-app", "column 1: '-app' is no label name"),
        ("app=" + "x" * 64, "is no label value"),
        ("/app", "'/app' is no label name"),
    ],
)
def test_a_selector_that_cannot_be_meant_names_the_place(selector: str, said: str) -> None:
    with pytest.raises(SelectorError) as refused:
        parse_selector(selector)
    assert said in str(refused.value)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(SelectorError):
        parse_selector(text).matches(SHOP_WEB)
