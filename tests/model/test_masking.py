"""What may be shown of settings with secrets in them."""

import pytest

from reconciler.model.masking import is_secret_key, masked, masked_metadata, secrets_in, without


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:s3cret@host:6379/0", "redis://:***@host:6379/0"),
        ("redis://user:s3cret@host/0", "redis://user:***@host/0"),
        ("amqp://user:s3/cr@et#x@host/%2F and more", "amqp://user:***@host/%2F and more"),
        ("two: a://u:1@h b://u:2@h", "two: a://u:***@h b://u:***@h"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://user@host", "redis://user@host"),
        ("host=h password=s3cret user=u", "host=h password=*** user=u"),
        ("password = 'a b' x", "password = *** x"),
        ("https://h/p?token=abc&x=1", "https://h/p?token=***&x=1"),
        ("the password is wrong", "the password is wrong"),
        ("", ""),
    ],
)
def test_passwords_in_texts_are_masked(text, shown):
    assert masked(text) == shown


@pytest.mark.parametrize(
    "key",
    [
        "password",
        "PASSWORD",
        "dbPassword",
        "bearerToken",
        "apiKey",
        "api_key",
        "clientSecret",
        "Authorization",
        "awsCredentials",
        "Cookie",
    ],
)
def test_these_keys_hold_secrets(key):
    assert is_secret_key(key)


@pytest.mark.parametrize("key", ["passwordFromFile", "tokenFromEnv", "key", "keyPrefix", "url", "queue"])
def test_these_do_not(key):
    assert not is_secret_key(key)


def test_metadata_is_shown_without_its_secrets():
    shown = masked_metadata(
        {
            "url": "redis://u:p@h",
            "password": "p",
            "passwordFromFile": "/etc/p",
            "headers": {"Authorization": "Bearer x", "Accept": "*/*"},
            "parts": [{"key": "k", "token": "x"}, "a://u:p@h"],
            "port": 3,
        }
    )
    assert shown == {
        "url": "redis://u:***@h",
        "password": "***",
        "passwordFromFile": "/etc/p",
        "headers": {"Authorization": "***", "Accept": "*/*"},
        "parts": [{"key": "k", "token": "***"}, "a://u:***@h"],
        "port": 3,
    }


def test_secrets_are_found_wherever_they_are():
    assert secrets_in(
        {"url": "x://u:a%2Fb@h", "password": "p", "headers": {"X-Token": "t"}, "tokens": ["t1", "t2"], "queue": "q"}
    ) == {"a%2Fb", "a/b", "p", "t", "t1", "t2"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("failed with s3cret/+", "failed with ***"),
        ("url had s3cret%2F%2B in it", "url had *** in it"),
        ("user a of ab", "user *** of ab"),
        ("x://u:other@h", "x://u:***@h"),
    ],
)
def test_secrets_go_from_what_others_say(text, shown):
    assert without(text, {"s3cret/+", "a"}) == shown


def test_the_longest_secret_goes_first():
    assert without("abcdef", {"abc", "abcdef"}) == "***"
