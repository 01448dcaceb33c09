"""The command itself: quick, helpful, and one line for what a user can mend."""

import errno
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from linekeeper.cli import COMMANDS
from linekeeper.cli.errors import explain
from tests.cli.commands import CommandLine
from tests.receiver.processes import free_port

KEY = "A" * 43 + "="


def test_the_overview_lists_every_command_and_loads_none() -> None:
    code = (
        "import sys; sys.argv = ['linekeeper', '--help']\n"
        "from linekeeper.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'prefect', 'sqlalchemy', 'httpx', 'pydantic', 'starlette'} & set(sys.modules)\n"
        "print('HEAVY', sorted(heavy))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert "HEAVY []" in shown
    assert all(name in shown for name in COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help(name: str, command: CommandLine) -> None:
    said = command(name, "--help")
    assert said.code == 0
    assert f" linekeeper {name} " in said.out, said.out


@pytest.mark.parametrize("name", ["", *sorted(COMMANDS)])
def test_at_80_columns_no_line_of_help_ends_early(
    name: str, command: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    prose = command(*filter(None, [name]), "--help").out.partition("╭")[0].splitlines()
    for line, after in pairwise(each.strip() for each in prose):
        if line and after and not after.startswith("linekeeper "):
            assert len(line) + 1 + len(after.split()[0]) > 78, f"{line} / {after}"


def test_the_version_is_one_line(command: CommandLine) -> None:
    done = command("--version")
    assert (done.code, done.out.split()[0]) == (0, "linekeeper")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"PREFECT_PORT": "abc"}, "LINEKEEPER_PREFECT_PORT: input should be a valid integer"),
        ({"PREFECT_PORT": "0"}, "LINEKEEPER_PREFECT_PORT: input should be greater than"),
        ({"RECEIVER_PORT": "99999"}, "LINEKEEPER_RECEIVER_PORT: input should be less than"),
        ({"MAX_BODY_BYTES": "0"}, "LINEKEEPER_MAX_BODY_BYTES: input should be greater than"),
        ({"WORK_POOL": "a/b c"}, "LINEKEEPER_WORK_POOL: prefect takes no name with /"),
        ({"NETWORK_FILE": "none.json"}, "LINEKEEPER_NETWORK_FILE: there is no file none.json"),
        ({"WORK_POOL_TEMPLATE": "none"}, "LINEKEEPER_WORK_POOL_TEMPLATE: there is no file none"),
        ({"SLACK_API_URL": "foo"}, "LINEKEEPER_SLACK_API_URL: give a URL that starts with"),
        ({"MAIL_FROM": "hunter2"}, "LINEKEEPER_MAIL_FROM: give an address, such as"),
        ({"MAKINI_ENTITIES": "eam/sites,assets"}, "LINEKEEPER_MAKINI_ENTITIES: 'assets' can't be"),
        ({"MAKINI_BODIES": "eam/as sets"}, "LINEKEEPER_MAKINI_BODIES: 'eam/as sets' can't be"),
        ({"MAKINI_API_URL": "makini"}, "LINEKEEPER_MAKINI_API_URL: give a URL that starts with"),
        ({"PUBLIC_URL": "lines.acme.example"}, "LINEKEEPER_PUBLIC_URL: give a URL that starts"),
        ({"HEARTBEAT_URL": "https://hc:hunter2/x"}, "LINEKEEPER_HEARTBEAT_URL: give a URL that"),
        ({"FORWARD_URL": "acme/hunter2"}, "LINEKEEPER_FORWARD_URL: give a URL that starts"),
        ({"FORWARD_TARGETS": "crm hunter2"}, "LINEKEEPER_FORWARD_TARGETS: line 1: "),
        ({"SMTP_URL": "mail.acme.example:hunter2"}, "LINEKEEPER_SMTP_URL: give a URL such as"),
        (
            {"DATABASE_URL": "mysql://root:hunter2@db/x"},
            "begins with mysql://, which is not supported",
        ),
        ({"DATABASE_URL": "nonsense"}, "LINEKEEPER_DATABASE_URL is not a database URL"),
        (
            {"DATABASE_URL": "postgresql+asyncpg://u:hunter2@db:hunter2/x"},
            "LINEKEEPER_DATABASE_URL is not a database URL",
        ),
        (
            {
                "DATABASE_URL": "postgresql+asyncpg://u:hunter2@127.0.0.1:1/x",
                "ENCRYPTION_KEYS": KEY,
            },
            "the database does not answer",
        ),
        ({"ENCRYPTION_KEYS": "hunter2"}, "each key is 32 url-safe base64-encoded bytes"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_a_wrong_setting_is_one_line_without_its_value(
    command: CommandLine, settings: dict[str, str], said: str
) -> None:
    command.migrated()
    with pytest.MonkeyPatch.context() as patch:  # what is run after the test reads settings, too
        for name, value in settings.items():
            patch.setenv(f"LINEKEEPER_{name}", value)
        done = command("status")
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert done.err.startswith("linekeeper: ")
    assert said in done.err
    assert "hunter2" not in done.err + done.out


@pytest.mark.parametrize("first", [["migrate"], ["up", "--no-sandbox"]], ids=lambda first: first[0])
def test_a_database_that_does_not_answer_is_one_line_for_who_opens_it_first(
    command: CommandLine, first: list[str]
) -> None:
    free = {f"{part}_PORT": str(free_port()) for part in ("PREFECT", "RECEIVER")}
    database = "postgresql+asyncpg://u:hunter2@127.0.0.1:1/x"
    command.set(DATABASE_URL=database, ENCRYPTION_KEYS=KEY, **free)
    done = command(*first)
    assert done.code == 1
    assert done.err.splitlines()[-1].startswith("linekeeper: the database does not answer")
    assert "hunter2" not in done.out + done.err


AGAIN = pytest.mark.repeats(
    "cli/test_command_line.py::test_what_is_no_address_of_a_prefect_is_not_waited_for"
)


@pytest.mark.parametrize(
    ("words", "url"),
    [
        pytest.param(["deploy"], "foo", marks=AGAIN),
        (["up", "--no-sandbox"], "op.example:4200/api"),
    ],
)
def test_what_is_no_address_of_a_prefect_is_not_waited_for(
    tmp_path: Path, words: list[str], url: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "linekeeper.cli", *words],
        env={**os.environ, "LINEKEEPER_HOME": str(tmp_path), "PREFECT_API_URL": url},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("linekeeper: PREFECT_API_URL: give a URL")


def test_what_a_command_asks_on_this_machine_goes_through_no_proxy() -> None:
    """As Prefect's client asks Prefect's server, with httpx, and as Makini and the product are."""
    code = (
        "import httpx, sys, threading; from http.server import *\n"
        "sys.argv = ['linekeeper', '--version']\n"
        "server = HTTPServer(('127.0.0.1', 0), SimpleHTTPRequestHandler)\n"
        "threading.Thread(target=server.serve_forever, daemon=True).start()\n"
        "from linekeeper.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "from linekeeper.makini.http_client import open_client\n"
        "url = f'http://127.0.0.1:{server.server_port}/'\n"
        "async def ask():\n"
        "    async with open_client(url) as client: return await client.get(url)\n"
        "import asyncio; print(httpx.get(url).status_code, asyncio.run(ask()).status_code)"
    )
    proxied = {"HTTP_PROXY": "http://127.0.0.1:1", "NO_PROXY": "plant.example"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=False, env={**os.environ, **proxied},
    )  # fmt: skip
    assert done.stdout.splitlines()[-1:] == ["200 200"], done.stderr


def test_wrong_usage_exits_with_2(command: CommandLine) -> None:
    assert command("nonsense").code == 2
    assert command("sandbox", "--scenario", "x").code == 2


def test_a_bug_keeps_its_traceback() -> None:
    assert explain(KeyError("x")) is None
    assert explain(ExceptionGroup("several", [KeyError("x")])) is None


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "make room"),
        (errno.EDQUOT, "make room"),
        (errno.EFBIG, "raise the limit"),
        (errno.EROFS, "set LINEKEEPER_HOME to a folder that can be written"),
        (errno.EACCES, "check the path"),
    ],
)
def test_a_home_that_cannot_be_used_is_named(number: int, advice: str) -> None:
    line = explain(OSError(number, os.strerror(number), "/srv/linekeeper"))
    assert line is not None
    assert line.startswith("/srv/linekeeper: ")
    assert advice in line
    assert explain(OSError(errno.EBADF, "bad")) is None, "that one is a bug"


def test_up_says_in_one_line_that_files_may_not_be_so_large(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if "LINEKEEPER" not in name}
    code = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))\n"
        "from linekeeper.cli import main\n"
        "sys.argv = ['linekeeper', 'up', '--no-schedules']\n"
        "main()"
    )
    ports = {
        f"LINEKEEPER_{part}_PORT": str(free_port()) for part in ("PREFECT", "RECEIVER", "SANDBOX")
    }
    shown = subprocess.run(
        [sys.executable, "-c", code],
        env={**kept, **ports, "LINEKEEPER_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert shown.returncode == 1
    said = shown.stdout + shown.stderr
    assert "Traceback" not in said, said
    assert "file too large; raise the limit" in said


def test_a_disk_without_room_for_the_journal_says_what_to_do(tmp_path: Path) -> None:
    """SQLite calls it an I/O error; here a limit of the process stands for the disk."""
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))\n"
        "from linekeeper.cli import main\n"
        "sys.argv = ['linekeeper', 'status']\n"
        "main()"
    )
    kept = {name: value for name, value in os.environ.items() if "LINEKEEPER" not in name}
    environment = kept | {"LINEKEEPER_HOME": str(tmp_path)}
    migrate = [sys.executable, "-c", "from linekeeper.cli import main; main()", "migrate"]
    subprocess.run(migrate, env=environment, check=True, capture_output=True)
    shown = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 1
    assert "make room" in shown.stderr, shown.stderr
    assert "Traceback" not in shown.stderr


def test_prefect_collects_nothing_of_a_command() -> None:
    """As of what `up` starts: its client sent usage data, and greeted the first command with it."""
    code = (
        "import os, sys\n"
        "os.environ.pop('DO_NOT_TRACK', None); sys.argv = ['linekeeper', '--help']\n"
        "from linekeeper.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print('TRACK', os.environ['DO_NOT_TRACK'])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "TRACK 1" in shown.stdout


def test_postgresql_without_keys_says_how_to_make_one(command: CommandLine) -> None:
    command.set(DATABASE_URL="postgresql+asyncpg://db/x")
    assert "LINEKEEPER_ENCRYPTION_KEYS is not set" in command("status").err


def test_an_empty_database_says_what_to_run(command: CommandLine) -> None:
    done = command("status")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "run `linekeeper migrate`" in done.err


def test_migrating_twice_says_so(command: CommandLine) -> None:
    assert "it was empty" in command("migrate").out
    assert "already" in command("migrate").out


def test_customers_come_from_standard_input_too(command: CommandLine) -> None:
    command.migrated()
    done = command("customer", "import", "-", stdin="name,contacts\nAcme,a@x.org\n")
    assert done.out.splitlines() == [
        "+ Acme: contact a@x.org",
        "1 customer created, 0 changed, 0 as they were",
    ]
    wrong = command("customer", "import", "-", stdin="name,owner\n,Kim\n")
    assert wrong.code == 1
    assert "line 2, column name: it is empty" in wrong.err


def test_the_list_of_keys_says_how_exact_their_last_use_is(command: CommandLine) -> None:
    """Whoever revokes a key wants to know whether it is still in use.

    A script that reads the table finds nothing but the table.
    """
    command.migrated()
    command("key", "add", "product")
    listed = command("key", "list")
    assert "used again up to an hour after" in listed.err
    assert "hour" not in listed.out


def test_an_unknown_customer_is_named_before_anything_is_asked(command: CommandLine) -> None:
    command.migrated()
    done = command("customer", "erase", "Nobody Ltd", "--confirm", "another phrase")
    assert done.code == 1
    assert done.err == "linekeeper: no customer is called exactly 'Nobody Ltd'\n"
    done = command("records", "purge", "nobody's key", "--confirm", "another phrase")
    assert done.code == 1
    assert "no connection" in done.err


def test_more_days_than_there_were_are_refused_in_words(command: CommandLine) -> None:
    for days in ("1000000", "inf"):
        done = command("audit", "--days", days)
        assert (done.code, "Traceback" in done.err) == (2, False)


def test_a_file_that_is_not_there_is_one_line(command: CommandLine) -> None:
    done = command("customer", "import", "nowhere.csv")
    assert done.err == "linekeeper: nowhere.csv can't be read: no such file or directory\n"
