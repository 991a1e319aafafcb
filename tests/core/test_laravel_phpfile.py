"""What a PHP file returns, told without PHP; what cannot be told is Unknown, with its line, and harms nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.laravel.phpfile import DEEPEST, returned
from reconciler.core.laravel.phptokens import NotPhp
from reconciler.core.laravel.phpvalues import Unknown

ENVIRONMENT = {
    "NAME": "My Shop", "PORT": "6379", "YES": "true", "NO": "(false)", "NULL": "null", "EMPTY": "(empty)",
    "QUOTED": '"in quotes"', "PARENTHESES": "(x)",
}  # fmt: skip


def read(expression: str, before: str = "") -> object:
    return returned(f"<?php\n{before}\nreturn {expression};\n".encode(), "/srv/shop", ENVIRONMENT)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        # literals
        (r"'it\'s a \\ \n'", r"it's a \ \n"),
        (r'"a\n\t\r\v\e\f\\\$\"\x41\101\u{e9}\q"', 'a\n\t\r\v\x1b\f\\$"AA\u00e9\\q'),
        ('"10 $ and 5$"', "10 $ and 5$"),
        ("0x1F + 0b11 + 017 + 1_000 + 09", 31 + 3 + 15 + 1000 + 9),
        ("[1.5, .5, 1e3]", {0: 1.5, 1: 0.5, 2: 1000.0}),
        ("[true, FALSE, Null]", {0: True, 1: False, 2: None}),
        # arrays
        ("['a' => 1, 'b' => ['c' => 2,],]", {"a": 1, "b": {"c": 2}}),
        ("array('x', 5 => 'y', 'z', '7' => 1, 2)", {0: "x", 5: "y", 6: "z", 7: 1, 8: 2}),
        ("[true => 1, null => 2, 1.7 => 3, '01' => 4]", {1: 3, "": 2, "01": 4}),
        ("[...['a', 'k' => 1], ...['b', 'k' => 2]]", {0: "a", "k": 2, 1: "b"}),
        ("[]", {}),
        ("[PDO::SOME => 1, 'k' => 2]", {"k": 2}),
        (
            "extension_loaded('pdo_mysql') ? array_filter([PDO::MYSQL_ATTR_SSL_CA => env('NAME')]) : []",
            {1009: "My Shop"},
        ),
        (
            "[Mysql::ATTR_SSL_CA => 1, \\Pdo\\Mysql::ATTR_SSL_VERIFY_SERVER_CERT => false, 2]",
            {1009: 1, 1014: False, 1015: 2},
        ),
        ("[(PHP_VERSION_ID >= 80500 ? \\Pdo\\Mysql::ATTR_SSL_CA : \\PDO::MYSQL_ATTR_SSL_CA) => 'x']", {1009: "x"}),
        ("['a' => ['b' => 3]]['a']['b']", 3),
        ("['a' => 1]['x'] ?? 'none'", "none"),
        # operators
        ("'a' . 1 . true . null . 2.0", "a112"),
        ("1 + 2 * 3 - -4", 11),
        ("'5 apples' + '3'", 8),
        ("null ?? false ?? 'x'", False),
        ("null ?: '' ?: 'x'", "x"),
        ("'0' ? 'yes' : 'no'", "no"),
        ("1 ? 2 ? 'a' : 'b' : 'c'", "a"),
        ("!'' && !0 && !'0' && !null && ![] && !0.0", True),
        ("0 || 'x'", True),
        ("(1 === 1) && ('1' !== 1) && ('a' == 'a') && ('a' != 'b') && (1 == 1)", True),
        ("[1, 'a' => 2] + [3, 4, 'b' => 5]", {0: 1, "a": 2, 1: 4, "b": 5}),
        ("[1 < 2, 2 <= 1, 2 > 1 + 1, 3 >= 3, 1 < 2 === true]", {0: True, 1: False, 2: False, 3: True, 4: True}),
        ("(int) '12px' . (string) 5 . (bool) 'x'", "1251"),
        ("[(int) null, (integer) 'x', (int) 2.9, (boolean) 0, intval(' 7')]", {0: 0, 1: 0, 2: 2, 3: False, 4: 7}),
        ("[(array) 'x', (array) null, (array) [1]]", {0: {0: "x"}, 1: {}, 2: {0: 1}}),
        ("[-1.5, -'2', @$x ?? 1]", {0: -1.5, 1: -2, 2: Unknown("$x in line 3")}),
        ("((('x')))", "x"),
        # env()
        ("env('NAME')", "My Shop"),
        ("[env('YES'), env('NO'), env('NULL', 'x'), env('EMPTY', 'x')]", {0: True, 1: False, 2: None, 3: ""}),
        ("[env('QUOTED'), env('PARENTHESES'), env('NOPE'), env('NOPE', 5)]", {0: "in quotes", 1: "(x)", 2: None, 3: 5}),
        ("(int) env('PORT', 1)", 6379),
        ("env('NAME', fn () => strrev('never asked'))", "My Shop"),
        # functions
        ("Str::slug(env('NAME', 'laravel'), '_').'_database_'", "my_shop_database_"),
        (r"\Illuminate\Support\Str::slug('A_B @ c  d!')", "a-b-at-c-d"),
        ("str_slug('Müller & Søn')", "muller-son"),
        ("Str::lower('ABC') . strtolower('D') . trim(' e ')", "abcde"),
        (
            "storage_path() . database_path('x.sqlite') . base_path()",
            "/srv/shop/storage/srv/shop/database/x.sqlite/srv/shop",
        ),
        ("explode(',', 'a,b')", {0: "a", 1: "b"}),
        ("implode('-', array_filter(['a', '', null, 'b']))", "a-b"),
        ("array_merge(['a' => 1, 5 => 'x'], ['a' => 2, 9 => 'y'])", {"a": 2, 0: "x", 1: "y"}),
        ("array_values(['a' => 1, 'b' => 2])", {0: 1, 1: 2}),
        # comments
        ("[ // one\n 1, # two\n /* three\n */ 2, #[attribute]\n]", {0: 1, 1: 2, 2: Unknown("'#' in line 6")}),
    ],
)
def test_what_is_read(expression, value):
    found = read(expression)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("foo('x')", "a call of foo() in line 3"),
        ("Foo::bar('x', $y)", "a call of Foo() in line 3"),
        ("Foo::BAR", "Foo::BAR in line 3"),
        ("Foo::class", "Foo::class in line 3"),
        ("PHP_EOL", "PHP_EOL in line 3"),
        ("$x", "$x in line 3"),
        ("new Foo(1)", "'Foo' in line 3"),
        ("function ($a) { return [1, 2]; }", "'{' in line 3"),
        ("match (true) { default => 1 }", "'{' in line 3"),
        ("$x->y['z']", "'->' in line 3"),
        ('"hello $name"', "a text with variables in line 3"),
        ('"hello {$name}"', "a text with variables in line 3"),
        (r'"\xff"', "a text with a strange escape in line 3"),
        (r'"\u{ffffff}"', "a text with a strange escape in line 3"),
        ("<<<TEXT\n a ' b\n TEXT", r'"<<<TEXT\n a ' + "' b" + r'\n TEXT" in line 3'),
        ("1 <=> 2", "'<=>' in line 3"),
        ("1 < '2'", "an operation on other kinds of values"),
        ("1.5 < 2", "an operation on other kinds of values"),
        ("extension_loaded('redis') ? 1 : 2", "a call of extension_loaded() in line 3"),
        ("PHP_VERSION_ID >= 80500 ? 1 : '1'", "PHP_VERSION_ID in line 3"),
        ("PHP_VERSION_ID >= 80500 ? [] : []", "PHP_VERSION_ID in line 3"),
        ("PHP_VERSION_ID >= 80500 ? foo() : foo()", "PHP_VERSION_ID in line 3"),
        ("(object) []", "an operation on other kinds of values"),
        ("'a' . []", "an operation on other kinds of values"),
        ("1.5 + 1", "an operation on other kinds of values"),
        ("'1' == '1.0'", "an operation on other kinds of values"),
        ("[1] == [1]", "an operation on other kinds of values"),
        ("1 == '1'", "an operation on other kinds of values"),
        ("(int) []", "an operation on other kinds of values"),
        ("'x'['y']", "an operation on other kinds of values"),
        ("1e300 . ''", "an operation on other kinds of values"),
        ("foo() . 'x'", "a call of foo() in line 3"),
        ("!foo()", "a call of foo() in line 3"),
        ("foo() ?: 'x'", "a call of foo() in line 3"),
        ("foo() ? 1 : 2", "a call of foo() in line 3"),
        ("foo() ?? 'x'", "a call of foo() in line 3"),
        ("env()", "a call of env() in line 3"),
        ("env(foo())", "a call of env() in line 3"),
        ("Str::slug('日本')", "a call of Str() in line 3"),
        ("Str::slug()", "a call of Str() in line 3"),
        ("Str::slug(foo())", "a call of foo() in line 3"),
        ("explode('', 'x')", "a call of explode() in line 3"),
        ("implode(',', 'x')", "a call of implode() in line 3"),
        ("array_values('x')", "a call of array_values() in line 3"),
        ("array_merge('x')", "a call of array_merge() in line 3"),
        ("array_filter([foo()])", "a call of array_filter() in line 3"),
        ("array_filter('x')", "a call of array_filter() in line 3"),
        ("storage_path('a', 'b')", "a call of storage_path() in line 3"),
        ("[...'x']", "something spread that is no array"),
        ("[...foo()]", "a call of foo() in line 3"),
        ("[-5 => 1, 2]", "an array with keys that are not known"),
        ("[PDO::SOME => 1, 2]", "an array with keys that are not known"),
        ("[foo() => 1, 'k' => 2]", "a call of foo() in line 3"),
        ("[[] => 1, 'k' => 2]", "an array with keys that are no keys"),
        ("[1 2]", None),
        ("array(1 2)", None),
    ],
)
def test_what_is_not(expression, why):
    found = read(expression)
    if why is None:
        assert found == {0: Unknown("'2' in line 3")}
    else:
        assert found == Unknown(why)


def test_what_is_unknown_harms_nothing_beside_it():
    found = read("['a' => fn () => [1, ')'], 'b' => new X(['y' => 1]), 'c' => foo(1 2), 'd' => 4, 'e' => $f['x'](1)]")
    assert {key: value for key, value in found.items() if not isinstance(value, Unknown)} == {"d": 4}
    assert list(found) == ["a", "b", "c", "d", "e"]


def test_what_may_stand_before_return():
    before = r"declare(strict_types=1); namespace App; use Foo\{Bar, Baz}; $name = 'x'; $other = foo();"
    assert read("[$name, $other]", before) == {0: "x", 1: Unknown("a call of foo() in line 2")}
    assert returned(b"\xef\xbb\xbf<?php return 1 ?>\n<p>", "/", {}) == 1


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "does not begin with <\\?php"),
        (b"hello", "does not begin with <\\?php"),
        (b"<?php $x = 1;", "returns nothing"),
        (b"<?php\n\nif (true) { return 1; }", "line 3: begins with something else than return: 'if'"),
        (b"<?php return 'open", 'line 1: what begins with "\'" is not PHP, or never ends'),
        (b"<?php\nreturn [1, (2];", "line 2: \\] closes nothing"),
        (b"<?php\nreturn );", "line 2: \\) closes nothing"),
        (b"<?php return [1, ", "line 1: ends where"),
        (b"<?php return [1, [2", "line 1: ends where"),
        (b"<?php return foo(1", "line 1: ends where"),
        (b"<?php return \x01;", "line 1: what begins with '\\\\x01'"),
    ],
)
def test_what_is_no_such_file(content, why):
    with pytest.raises(NotPhp, match=why):
        returned(content, "/", {})


def test_a_cached_configuration():
    text = rb"""<?php return array (
      'queue' =>
      array (
        'default' => 'redis',
        'connections' => array ('redis' => array ('driver' => 'redis', 'retry_after' => 90, 'block_for' => NULL)),
      ),
      'odd' => \Foo\Bar::__set_state(array('x' => 1)),
      'std' => (object) array('a' => 1),
      'nul' => 'a' . "\0" . 'b',
    );"""
    found = returned(text, "/", {})
    assert found["queue"]["connections"]["redis"] == {"driver": "redis", "retry_after": 90, "block_for": None}
    assert found["nul"] == "a\0b"
    assert isinstance(found["odd"], Unknown)
    assert isinstance(found["std"], Unknown)


def test_depth_is_bounded():
    deep = "[" * (DEEPEST + 5) + "1" + "]" * (DEEPEST + 5)
    found: object = read(deep)
    while isinstance(found, dict):
        found = found[0]
    assert found == Unknown("deeper than is read here in line 3")
    assert isinstance(read("[" * 5000 + "]" * 5000), dict)
    assert read("!" * 5001 + "1") is False
    assert read("-" * 5000 + "1") == 1


@given(st.text(alphabet="<?php return[]()'\"\\=>,;.$x1\n:!-aE{}#/*", max_size=60))
def test_any_text_is_read_or_refused(text):
    try:
        returned(f"<?php return {text}".encode(), "/", {})
    except NotPhp:
        pass
