"""What a spec names on this host, in good order and in every other."""

import grp
import os
import pwd
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters.surroundings import Surroundings
from reconciler.adapters.surroundings.accounts import MOST_REMEMBERED, REMEMBERED_SECONDS, Accounts
from reconciler.adapters.surroundings.reading import LARGEST_ENV_FILE_BYTES
from reconciler.core.launching import Account, Facts
from reconciler.hostfiles import Refused, content
from reconciler.model.launch import Credentials
from reconciler.model.manifest import program_from_canonical

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
WWW = pwd.getpwnam("www-data")
STRANGER = Credentials(WWW.pw_uid, WWW.pw_gid, (WWW.pw_gid,))


class Host:
    """Surroundings, and one Program that is read again and again."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.surroundings = Surroundings(environment={"TOKEN": "t"}, **options)

    def read(self, **fields: Any) -> Facts:
        canonical = {"command": ["/bin/true"], "workingDir": str(self.folder), **fields}
        return self.surroundings.read("web", program_from_canonical(canonical))

    def changed(self, facts: Facts) -> bool:
        return self.surroundings.fingerprint("web") != facts.fingerprint


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path.resolve(), accounts=Accounts(may_become_others=True))


# ---- users and groups ----------------------------------------------------------------------------------------------


def test_without_a_user_the_controllers_account_is_taken_as_it_is(host: Host) -> None:
    facts = host.read()
    assert (facts.account.uid, facts.credentials, facts.problems) == (os.geteuid(), None, ())
    assert facts.outer["USER"] == facts.account.name


@AS_ROOT
@pytest.mark.parametrize("user", ["www-data", str(WWW.pw_uid)])
def test_a_user_brings_group_groups_and_home(host: Host, user: str) -> None:
    facts = host.read(user=user)
    assert facts.account == Account("www-data", WWW.pw_uid, WWW.pw_dir, WWW.pw_shell)
    groups = tuple(sorted(os.getgrouplist("www-data", WWW.pw_gid)))
    assert facts.credentials == Credentials(WWW.pw_uid, WWW.pw_gid, groups)
    assert [facts.outer[name] for name in ("HOME", "USER", "LOGNAME", "SHELL")] == [
        WWW.pw_dir,
        "www-data",
        "www-data",
        WWW.pw_shell,
    ]


@AS_ROOT
def test_written_groups_go_before_and_beside_the_users_own(host: Host) -> None:
    facts = host.read(user="www-data", group="mail", supplementaryGroups=["adm", "7"])
    mail, adm = grp.getgrnam("mail").gr_gid, grp.getgrnam("adm").gr_gid
    assert facts.credentials is not None
    assert facts.credentials.gid == mail
    assert {mail, adm, 7} <= set(facts.credentials.groups)


@AS_ROOT
def test_the_controllers_own_user_written_out_changes_nothing(host: Host) -> None:
    own = pwd.getpwuid(os.geteuid()).pw_name
    if set(os.getgrouplist(own, os.getegid())) == {*os.getgroups(), os.getegid()}:
        assert host.read(user=own).credentials is None


@AS_ROOT
def test_a_number_without_passwd_entry_needs_a_group(host: Host) -> None:
    facts = host.read(user="54321")
    assert not facts.startable
    assert facts.problems == ("user 54321 has no entry in passwd, so its group is not known: write `group` too",)
    facts = host.read(user="54321", group="54322")
    assert facts.startable
    assert facts.credentials == Credentials(54321, 54322, (54322,))
    assert facts.account == Account("54321", 54321, "/", "/bin/sh")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"user": "www-dat"}, 'user "www-dat" does not exist (nearest: www-data)'),
        ({"user": "qqqqqqqq"}, 'user "qqqqqqqq" does not exist'),
        ({"group": "www-dat"}, 'group "www-dat" does not exist (nearest: www-data)'),
        ({"supplementaryGroups": ["qqqqqqqq"]}, 'group "qqqqqqqq" does not exist'),
        ({"user": "4294967295"}, "user 4294967295 is not an id: the highest is 4294967294"),
        ({"user": "99999999999999999999"}, "user 99999999999999999999 is not an id: the highest is 4294967294"),
        ({"user": "www-data", "group": "4294967295"}, "group 4294967295 is not an id: the highest is 4294967294"),
    ],
)
def test_who_does_not_exist_is_a_problem_and_nobody_is_started(
    host: Host, fields: dict[str, Any], problem: str
) -> None:
    facts = host.read(**fields)
    assert facts.problems == (problem,)
    assert not facts.startable


def test_a_name_that_no_database_can_hold_is_a_problem_too(host: Host) -> None:
    facts = host.read(user="a\0b", group="\udcff")
    assert not facts.startable
    assert "cannot be looked up" in facts.problems[0]


def test_who_may_not_change_ids_says_so(tmp_path: Path) -> None:
    facts = Host(tmp_path, accounts=Accounts(may_become_others=False)).read(user="games")
    assert not facts.startable
    assert 'without the right to change ids: it cannot start processes as user "games"' in facts.problems[0]


def test_who_may_not_change_ids_may_name_themselves(tmp_path: Path) -> None:
    own = str(os.geteuid())
    facts = Host(tmp_path, accounts=Accounts(may_become_others=False)).read(user=own, group=str(os.getegid()))
    assert (facts.startable, facts.credentials) == (True, None)


def test_a_directory_service_that_fails_is_a_problem(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: Any) -> Any:
        raise OSError(5, "Input/output error")

    for module, name, fields in (
        (pwd, "getpwnam", {"user": "www-data"}),
        (grp, "getgrnam", {"group": "www-data"}),
        (os, "getgrouplist", {"user": "games"}),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, fail)
            facts = host.read(**fields)
        assert not facts.startable
        assert facts.problems[0].endswith("cannot be looked up: input/output error")


def test_a_controller_that_passwd_does_not_know_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    assert Accounts().controller() == Account("54321", 54321, "/", "/bin/sh")


def test_what_the_controller_may_is_read_from_its_capabilities(tmp_path: Path) -> None:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    effective = int(re.findall(r"^CapEff:\s*(\w+)$", status, re.MULTILINE)[0], 16)
    facts = Host(tmp_path).read(user="games")
    assert facts.startable is (effective & 0b11000000 == 0b11000000)


def test_many_names_do_not_fill_the_memory() -> None:
    accounts = Accounts(may_become_others=True)
    for number in range(2 * MOST_REMEMBERED):
        accounts.identity(str(number + 50_000), "7", ())
    assert len(accounts.remembered) <= MOST_REMEMBERED


def test_answers_are_remembered_for_a_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    real = pwd.getpwnam

    def slow(name: str) -> pwd.struct_passwd:
        asked.append(name)
        return real(name)

    monkeypatch.setattr(pwd, "getpwnam", slow)
    clock = [100.0]
    accounts = Accounts(now=lambda: clock[0], may_become_others=True)
    for _ in range(3):
        accounts.identity("www-data", None, ())
        with pytest.raises(Refused):
            accounts.identity("nobody-like-this", None, ())
    assert asked == ["www-data", "nobody-like-this"]
    clock[0] += REMEMBERED_SECONDS
    accounts.identity("www-data", None, ())
    assert len(asked) == 3


def test_a_user_who_goes_stays_in_force(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    host = Host(host.folder, accounts=Accounts(now=lambda: clock[0], may_become_others=True))
    before = host.read(user="www-data")
    monkeypatch.setattr(pwd, "getpwnam", lambda name: {}[name])
    clock[0] += REMEMBERED_SECONDS
    facts = host.read(user="www-data")
    assert (facts.startable, facts.credentials) == (True, before.credentials)
    assert facts.problems == ('user "www-data" does not exist (nearest: www-data); what was good last stays in force',)


def test_while_a_user_is_missing_the_databases_are_watched(host: Host) -> None:
    assert len(host.read(user="qqqqqqqq").fingerprint) == 2
    assert host.read(user="www-data").fingerprint == ()


# ---- environment files ---------------------------------------------------------------------------------------------


@pytest.fixture
def env_file(host: Host) -> Path:
    path = host.folder / ".env"
    path.write_text("A=1\n")
    return path


def test_env_files_lie_above_the_clean_base_and_see_it(host: Host, env_file: Path) -> None:
    env_file.write_text("LANG=de_DE.UTF-8\nPLACE=${HOME}/x\nTOKEN2=${TOKEN}2\n")
    facts = host.read(envFrom=[{"file": str(env_file)}], inheritEnv=["TOKEN", "ABSENT"])
    assert facts.problems == ()
    assert (facts.outer["LANG"], facts.outer["TOKEN"], facts.outer["TOKEN2"]) == ("de_DE.UTF-8", "t", "t2")
    assert facts.outer["PLACE"] == f"{facts.account.home}/x"
    assert "ABSENT" not in facts.outer


def test_later_files_win_see_earlier_ones_and_have_prefixes(host: Host, env_file: Path) -> None:
    second = host.folder / "second"
    second.write_text("A=${A}2\nB=${APP_A}\n")
    facts = host.read(
        envFrom=[{"file": str(env_file)}, {"file": str(env_file), "prefix": "APP_"}, {"file": str(second)}]
    )
    assert {name: facts.outer[name] for name in ("A", "APP_A", "B")} == {"A": "12", "APP_A": "1", "B": "1"}
    assert facts.secrets == {"A", "APP_A", "B"}


def test_a_digest_is_of_what_a_file_sets(host: Host, env_file: Path) -> None:
    def digests() -> dict[str, str]:
        return dict(host.read(envFrom=[{"file": str(env_file)}]).digests)

    before = digests()
    assert before.keys() == {"envFrom[0]"}
    env_file.write_text("# a comment\nexport A='1'\n")
    assert digests() == before
    env_file.write_text("A=2\n")
    assert digests() != before


def test_a_file_that_shall_not_roll_is_read_all_the_same(host: Host, env_file: Path) -> None:
    facts = host.read(envFrom=[{"file": str(env_file), "rollOnChange": False}])
    assert (facts.outer["A"], facts.digests) == ("1", {})
    env_file.write_text("A=two\n")
    assert host.changed(facts)


def test_a_file_that_is_not_there_keeps_processes_from_being_started(host: Host) -> None:
    facts = host.read(envFrom=[{"file": "/nowhere/.env"}])
    assert facts.problems == ("env file /nowhere/.env: no such file",)
    assert not facts.startable


def test_unless_it_is_optional(host: Host, env_file: Path) -> None:
    source = {"file": str(env_file), "optional": True}
    env_file.unlink()
    facts = host.read(envFrom=[source])
    assert (facts.problems, facts.startable, facts.digests) == ((), True, {})
    env_file.write_text("A=1\n")
    assert host.changed(facts)
    assert host.read(envFrom=[source]).outer["A"] == "1"
    env_file.unlink()
    assert "A" not in host.read(envFrom=[source]).outer


def test_an_optional_file_that_is_wrong_is_still_wrong(host: Host, env_file: Path) -> None:
    env_file.write_text("A B\n")
    facts = host.read(envFrom=[{"file": str(env_file), "optional": True}])
    assert (facts.startable, len(facts.problems)) == (False, 1)


def test_the_last_good_content_stays_in_force(host: Host, env_file: Path) -> None:
    good = host.read(envFrom=[{"file": str(env_file)}])
    for damage in (lambda: env_file.write_text("A=1\nA B\n"), env_file.unlink, env_file.mkdir):
        damage()
        facts = host.read(envFrom=[{"file": str(env_file)}])
        assert (facts.startable, facts.outer["A"], facts.digests) == (True, "1", good.digests)
        assert facts.problems[0].startswith(f"env file {env_file}: ")
        assert facts.problems[0].endswith("; what was good last stays in force")


def test_last_good_content_belongs_to_one_program_and_ends_with_it(host: Host, env_file: Path) -> None:
    host.read(envFrom=[{"file": str(env_file)}])
    env_file.unlink()
    spec = program_from_canonical({"command": ["x"], "workingDir": "/", "envFrom": [{"file": str(env_file)}]})
    assert not host.surroundings.read("other", spec).startable
    host.surroundings.forget("web")
    assert not host.read(envFrom=[{"file": str(env_file)}]).startable
    host.surroundings.forget("never-seen")


def test_an_error_has_its_line_and_no_value(host: Host, env_file: Path) -> None:
    env_file.write_text("A=1\n\nPASSWORD=hunter2 hunter3\nB='\n")
    facts = host.read(envFrom=[{"file": str(env_file)}])
    assert facts.problems == (
        f"env file {env_file}: line 3: a space in the value of PASSWORD (put quotes around it); "
        "line 4: the single quote is not closed on this line",
    )
    assert "hunter" not in repr(facts)


def test_values_are_not_printed(host: Host, env_file: Path) -> None:
    env_file.write_text("PASSWORD=hunter2\n")
    facts = host.read(envFrom=[{"file": str(env_file)}], env={"KEY": {"fromFile": str(env_file)}})
    assert facts.values["KEY"] == "PASSWORD=hunter2"
    assert "hunter2" not in repr(facts)


def test_all_problems_come_at_once(host: Host) -> None:
    facts = host.read(
        user="qqqqqqqq",
        envFrom=[{"file": "/nowhere/a"}, {"file": "/nowhere/b"}],
        env={"C": {"fromFile": "/nowhere/c"}},
        workingDir="/nowhere/d",
    )
    assert len(facts.problems) == 5


# ---- hostile files -------------------------------------------------------------------------------------------------


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _circle(path: Path) -> None:
    path.symlink_to(path)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _terminal(path: Path) -> None:
    path.symlink_to("/dev/tty")


def _huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(100 << 20)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (_fifo, "is not a regular file"),
        (_circle, "too many levels of symbolic links"),
        (_device, "is not a regular file"),
        (_terminal, "is not a regular file"),
        (Path.mkdir, "is a directory"),
        (_huge, "is larger than"),
    ],
)
def test_what_is_no_file_is_refused_without_blocking(host: Host, make: Callable[[Path], None], problem: str) -> None:
    path = host.folder / "it"
    make(path)
    facts = host.read(envFrom=[{"file": str(path)}], env={"A": {"fromFile": str(path)}})
    assert [problem in text for text in facts.problems] == [True, True]
    assert not facts.startable


@pytest.mark.parametrize("path", ["/a\0b", "/" + "x" * 5000, "$(HOME)/.env", "/\udcff"])
def test_a_path_that_cannot_be_one_is_a_problem(host: Host, path: str) -> None:
    facts = host.read(envFrom=[{"file": path}], env={"A": {"fromFile": path}})
    assert len(facts.problems) == 2
    assert not host.changed(facts)


def test_a_file_may_be_as_large_as_the_bound(host: Host, env_file: Path) -> None:
    env_file.write_bytes(b"#\n" * (LARGEST_ENV_FILE_BYTES // 2))
    assert host.read(envFrom=[{"file": str(env_file)}]).problems == ()
    env_file.write_bytes(b"#\n" * (LARGEST_ENV_FILE_BYTES // 2) + b"#")
    assert "is larger than 1024 KiB" in host.read(envFrom=[{"file": str(env_file)}]).problems[0]


def test_a_file_that_may_not_be_read_is_a_problem_until_it_may(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: Any, **_options: Any) -> int:
        raise PermissionError(13, "Permission denied")

    path = host.folder / "secret"
    path.write_text("A=1\n")
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        facts = host.read(envFrom=[{"file": str(path)}])
    assert facts.problems == (f"env file {path}: permission denied",)
    path.chmod(0o600)
    assert host.changed(facts)


# ---- values from files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (b"x", "x"),
        (b"x\n", "x"),
        (b"x\n\n", "x\n"),
        (b"x\r\n", "x"),
        (b"", ""),
        (b" x \n", " x "),
        (b"$(A)${A}", "$(A)${A}"),
    ],
)
def test_one_line_end_is_dropped_from_a_value(host: Host, written: bytes, value: str) -> None:
    path = host.folder / "key"
    path.write_bytes(written)
    facts = host.read(env={"KEY": {"fromFile": str(path)}, "PLAIN": "p"})
    assert facts.values == {"KEY": value}
    assert facts.digests.keys() == {"env.KEY"}
    assert facts.secrets == {"KEY"}


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        (b"a\0b", "holds a NUL byte, which no variable can"),
        (b"\xff", "is not UTF-8"),
        (b"x" * 131072, "is larger than"),
    ],
)
def test_a_value_that_no_variable_can_hold_is_a_problem(host: Host, written: bytes, problem: str) -> None:
    path = host.folder / "key"
    path.write_bytes(written)
    facts = host.read(env={"KEY": {"fromFile": str(path)}})
    assert problem in facts.problems[0]
    assert not facts.startable


def test_a_changed_value_is_another_digest_and_a_damaged_one_is_not(host: Host) -> None:
    path = host.folder / "key"
    path.write_text("one\n")
    fields = {"env": {"KEY": {"fromFile": str(path)}}}
    one = host.read(**fields)
    path.write_text("two\n")
    two = host.read(**fields)
    assert one.digests != two.digests
    path.write_bytes(b"\xff")
    damaged = host.read(**fields)
    assert (damaged.values, damaged.digests) == (two.values, two.digests)


# ---- links of other users ------------------------------------------------------------------------------------------


@pytest.fixture
def theirs() -> Iterator[Path]:
    """A folder of the stranger in one that everybody may enter (pytest's own folders keep others out)."""
    with tempfile.TemporaryDirectory(prefix="reconciler-test-") as base:
        Path(base).chmod(0o755)
        folder = Path(base).resolve() / "theirs"
        folder.mkdir()
        os.chown(folder, WWW.pw_uid, WWW.pw_gid)
        yield folder


def _read_as_stranger(path: Path) -> bytes:
    return content(str(path), 1000, STRANGER)


def _link(path: Path, target: Path, owner: int) -> Path:
    path.symlink_to(target)
    os.chown(path, owner, owner, follow_symlinks=False)
    return path


def _secret(path: Path) -> Path:
    path.write_text("A=1\n")
    path.chmod(0o600)
    return path


@AS_ROOT
def test_a_strangers_link_does_not_lead_to_what_they_may_not_read(theirs: Path) -> None:
    link = _link(theirs / ".env", _secret(theirs.parent / "shadow"), WWW.pw_uid)
    with pytest.raises(Refused, match="leads through a link of another user to a file that the process may not read"):
        _read_as_stranger(link)


@AS_ROOT
def test_nor_into_a_folder_that_keeps_them_out(theirs: Path) -> None:
    secrets = theirs.parent / "secrets"
    secrets.mkdir()
    (secrets / ".env").write_text("A=1\n")  # the file itself may be read by everybody
    secrets.chmod(0o700)
    _link(theirs / "current", Path("../secrets"), WWW.pw_uid)
    with pytest.raises(Refused, match="another user"):
        _read_as_stranger(theirs / "current" / ".env")


@AS_ROOT
def test_what_root_arranged_is_read_for_them(theirs: Path) -> None:
    secret = _secret(theirs.parent / "secret")
    assert _read_as_stranger(secret) == b"A=1\n"
    assert _read_as_stranger(_link(theirs.parent / "link", secret, 0)) == b"A=1\n"


@AS_ROOT
@pytest.mark.parametrize(("owner", "mode"), [(WWW.pw_uid, 0o400), (0, 0o640), (0, 0o604)])
def test_their_link_to_what_they_may_read_is_followed(theirs: Path, owner: int, mode: int) -> None:
    release = theirs / "7"
    release.mkdir()
    file = release / ".env"
    file.write_text("A=1\n")
    file.chmod(mode)
    os.chown(file, owner, WWW.pw_gid if mode == 0o640 else 0)
    _link(theirs / "current", Path("./7/../7"), WWW.pw_uid)
    _link(theirs / "absolute", theirs / "current", WWW.pw_uid)
    assert _read_as_stranger(theirs / "absolute" / ".env") == b"A=1\n"


@AS_ROOT
def test_a_link_that_is_turned_while_it_is_looked_at_is_not_believed(
    theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = _secret(theirs.parent / "shadow")
    link = _link(theirs / ".env", secret, WWW.pw_uid)
    real = os.open

    def turn_back(*arguments: Any, **options: Any) -> int:
        descriptor = real(*arguments, **options)
        link.unlink()
        link.write_text("harmless\n")
        return descriptor

    monkeypatch.setattr(os, "open", turn_back)
    with pytest.raises(Refused, match="another user"):
        _read_as_stranger(link)


# ---- working directory ---------------------------------------------------------------------------------------------


@pytest.fixture
def releases(host: Host) -> Path:
    """A link `current` to one of two releases, and a way to turn it."""
    for name in ("one", "two"):
        (host.folder / name).mkdir()
    (host.folder / "current").symlink_to("one")
    return host.folder / "current"


def _turn(link: Path, target: str) -> None:
    new = link.with_name("new")
    new.symlink_to(target)
    new.rename(link)


def test_a_plain_directory_is_no_part_of_the_revision_and_not_watched(host: Host) -> None:
    facts = host.read()
    assert (facts.directory, facts.digests, facts.fingerprint) == (str(host.folder), {}, ())
    assert host.surroundings.fingerprint("web") == ()


@pytest.mark.parametrize("inside", ["", "app"])
def test_a_plain_directory_in_whose_way_a_link_is_put_is_plain_no_more(host: Host, inside: str) -> None:
    for name in ("plain", "two"):
        (host.folder / name / "app").mkdir(parents=True)
    path = host.folder / "plain" / inside
    assert host.read(workingDir=str(path)).digests == {}
    (host.folder / "plain").rename(host.folder / "old")
    (host.folder / "plain").symlink_to("two")
    facts = host.read(workingDir=str(path))
    assert facts.directory == str(host.folder / "two" / inside)
    assert "workingDir" in facts.digests


def test_a_turned_link_is_another_directory_and_another_digest(host: Host, releases: Path) -> None:
    one = host.read(workingDir=str(releases))
    assert one.directory == str(host.folder / "one")
    assert not host.changed(one)
    _turn(releases, "two")
    assert host.changed(one)
    two = host.read(workingDir=str(releases))
    assert two.directory == str(host.folder / "two")
    assert two.digests["workingDir"] != one.digests["workingDir"]
    _turn(releases, "one")
    assert host.read(workingDir=str(releases)).digests == one.digests


def test_a_link_anywhere_on_the_way_counts(host: Host, releases: Path) -> None:
    (host.folder / "one" / "app").mkdir()
    facts = host.read(workingDir=f"{releases}/app")
    assert facts.directory == str(host.folder / "one" / "app")
    assert "workingDir" in facts.digests


def test_links_are_left_alone_on_request(host: Host, releases: Path) -> None:
    facts = host.read(workingDir=str(releases), followLinks=False)
    assert (facts.directory, facts.digests, facts.fingerprint) == (str(releases), {}, ())


def test_a_link_that_is_away_for_a_moment_rolls_nothing(host: Host, releases: Path) -> None:
    one = host.read(workingDir=str(releases))
    releases.unlink()
    facts = host.read(workingDir=str(releases))
    assert (facts.directory, facts.digests, facts.startable) == (one.directory, one.digests, True)
    assert facts.problems == (f"working directory {releases}: no such directory; what was good last stays in force",)
    releases.symlink_to("two")
    assert host.changed(facts)


@pytest.mark.parametrize(
    ("make", "problem"),
    [(lambda _path: None, "no such directory"), (Path.touch, "is not a directory"), (_circle, "too many levels")],
)
def test_a_directory_that_is_none_is_told_and_left_to_the_spawn(
    host: Host, make: Callable[[Path], None], problem: str
) -> None:
    path = host.folder / "app"
    make(path)
    facts = host.read(workingDir=str(path))
    assert problem in facts.problems[0]
    assert (facts.startable, facts.directory) == (True, str(path))
    path.unlink(missing_ok=True)
    path.mkdir()
    assert host.changed(facts)


def test_a_directory_may_be_named_by_variables(host: Host, releases: Path, env_file: Path) -> None:
    env_file.write_text(f"ROOT={host.folder}\n")
    facts = host.read(workingDir="$(BASE)/current", env={"BASE": "$(ROOT)"}, envFrom=[{"file": str(env_file)}])
    assert facts.directory == str(host.folder / "one")
    assert "workingDir" in facts.digests


def test_a_directory_that_the_ordinal_decides_is_left_for_later(host: Host) -> None:
    assert host.read(workingDir=f"{host.folder}/$(REPLICA)").directory is None


@pytest.mark.parametrize("written", ["$(NOPE)/x", "$(REPLICA)/x"])
def test_a_directory_that_is_not_absolute_after_all_is_a_problem(host: Host, written: str) -> None:
    facts = host.read(workingDir=written)
    assert facts.problems == (f"working directory {written} does not expand to an absolute path",)
    assert not facts.startable


# ---- change detection ----------------------------------------------------------------------------------------------


def test_a_file_is_seen_to_change_however_it_is_written(host: Host, env_file: Path) -> None:
    fields: dict[str, Any] = {"envFrom": [{"file": str(env_file)}]}
    when = env_file.stat()
    facts = host.read(**fields)
    assert not host.changed(facts)
    env_file.write_text("A=2\n")
    os.utime(env_file, ns=(when.st_atime_ns, when.st_mtime_ns))  # the same size and time
    assert host.changed(facts)
    facts = host.read(**fields)
    replaced = env_file.with_name("new")
    replaced.write_text("A=3\n")
    replaced.rename(env_file)
    assert host.changed(facts)


def test_what_is_no_longer_named_is_no_longer_watched(host: Host, env_file: Path) -> None:
    assert host.read(envFrom=[{"file": str(env_file)}]).fingerprint != ()
    assert host.read().fingerprint == ()
    assert host.surroundings.fingerprint("web") == ()
    assert host.surroundings.fingerprint("never-read") == ()
