"""The stamped files are complete: files, names, order, settings, CI."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt
from sqlalchemy import MetaData

from dbservice import Service
from dbservice.accounts.cache import acl_file
from dbservice.schema import MANAGED_COLUMNS, RESERVED_ATTRIBUTES
from dbservice.settings import Settings

from .conftest import ROOT, Stamp, run

ANSWERS = sorted((ROOT / "tests/answers").glob("*.yml"))


def is_clean(service: Path) -> None:
    """Assert that formatter, linter and compiler have nothing to say about the service's own files."""
    run("ruff", "format", "--check", "--diff", "--no-cache", ".", cwd=service)
    run("ruff", "check", "--no-cache", ".", cwd=service)
    for path in service.rglob("*.py"):
        compile(path.read_text(), path, "exec")


def loaded(path: Path) -> dict[str, Any]:
    """What a stamped module of tables defines, in MetaDatas of its own."""
    bases = "".join(f"class {each}({each}, metadata=MetaData()): ...\n" for each in ("Table", "SharedTable"))
    code = re.sub(
        r"(\n\n\n)(?=class )",
        f"\nfrom sqlalchemy import MetaData\nfrom dbservice.schema import *\n{bases}",
        path.read_text(),
        count=1,
    )
    module: dict[str, Any] = {"__name__": "stamped"}
    exec(compile(code, path, "exec"), module)
    return module


def module(*classes: type) -> ModuleType:
    """A module with these classes."""
    made = ModuleType("access")
    vars(made).update({each.__name__: each for each in classes})
    return made


def test_the_form_needs_no_trust() -> None:
    form = yaml.safe_load((ROOT / "copier.yml").read_text())
    assert not form.keys() & {"_tasks", "_jinja_extensions", "_migrations"}


def test_the_command_needs_neither_a_terminal_nor_trust(template: Path, tmp_path: Path) -> None:
    run("copier", "copy", "--defaults", template, "one", cwd=tmp_path)
    run(
        "copier",
        "copy",
        "--defaults",
        "--data-file",
        ROOT / "tests/answers/auth_user.yml",
        template,
        "two",
        cwd=tmp_path,
    )
    assert (tmp_path / "one/src/one/tables.py").exists()
    assert (tmp_path / "two/src/accounts/tables.py").exists()


WIDTHS = {
    "t" * width: {
        "c" * min(width, 59 - width): f"enum({'a' * 50},{'b' * width}) unique = {'b' * width}",
        "d" * (59 - width): f"decimal(50,0) index = {'1' * width}",
        "e" * (60 - 50 if width > 20 else 9): f"-> {'t' * width} optional",
        "f" * (60 - 50 if width > 20 else 8): 'json = {"a": [1e22, -0.5, "(, ["], "b": {"c": null}}',
        "g": "text = " + ("é" if width % 2 else "'") * (29 if width % 2 else 58),
    }
    for width in [*range(1, 6), *range(12, 48, 3), 48]
}


SHARED = {
    "events": {"columns": {"id": "bigint", "kind": "string(40)", "at": "timestamp", "data": "json optional"}},
    "import": {
        "columns": {
            "id": "bigint",
            "platform": "string(20)",
            "token": "string(255) secret",
            "kind": f"enum({'x' * 60},b)",
        },
        "access": "read-write",
        "rows": {"platform": "twitch", "id": 5, "kind": "b"},
    },
}


RIGHT: dict[str, dict[str, Any]] = {
    **{path.stem: yaml.safe_load(path.read_text()) for path in ANSWERS},
    "widths": {"tables": WIDTHS},
    "shared": {"tables": {}, "shared": SHARED},
    "nothing": {"tables": {}, "ci": "none", "database": "sqlite", "service_name": "abacus"},
    "python names": {
        "tables": {
            name: {"c": "text"}
            for name in [
                "class",
                "metadata",
                "select",
                "l",
                "owned",
                "limit",
                "int",
                "a10",
                "a9",
                "a_b",
                "ab",
                *(
                    "text",
                    "none",
                    "page",
                    "row",
                    "row_id",
                    "table",
                    "create",
                    "statement",
                    "not_found",
                    "foreign_key",
                ),
            ]
        }
    },
    "cache": {"cache": "redis", "service_name": "abacus"},
    "cache that is only read": {"cache": "valkey", "tables": {}, "service_name": "abacus"},
    "description": {"description": "Kunden – für „alle“, it's 漢字 " + "漢" * 22},
}


@pytest.mark.parametrize("answers", RIGHT.values(), ids=RIGHT)
def test_what_is_stamped_is_clean(stamp: Stamp, answers: dict[str, Any]) -> None:
    service = stamp(answers)
    is_clean(service)
    for path in service.rglob("*"):
        assert not re.search(r"[{}%]|\.jinja", str(path.relative_to(service)))
        assert not path.is_file() or not re.search(r"\{%|(?<!\$)\{\{ ", path.read_text())


DESCRIPTIONS = [
    """It's "quoted" – „alle“, 漢字 🎉""",
    r"C:\new\table, \" and \\ and \u0041" + "\\",
    "100% of {{ service_name }}, {% raw %}, {# none #}, {0}, %(prog)s, ${HOME}, $(id)",
    "'\"" * 45,
    "'" * 46 + '"' * 44,
    "\\" * 90,
    "  two spaces, then two more  ",
]


@pytest.mark.parametrize("description", DESCRIPTIONS)
def test_a_description_is_written_as_it_was_given(stamp: Stamp, description: str) -> None:
    service = stamp({"service_name": "a", "description": description})
    answers = yaml.safe_load((service / ".copier-answers.yml").read_text())
    for folder in (service, stamp({"service_name": "a", "description": answers["description"]}, "again")):
        is_clean(folder)
        assert f"\n\n{description.strip()}\n\n" in (folder / "README.md").read_text()
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        assert project["description"] == description
        given = [
            ast.literal_eval(node.value)
            for node in ast.walk(ast.parse((folder / "src/a/service.py").read_text()))
            if isinstance(node, ast.keyword) and node.arg == "description"
        ]
        assert given == [description]


@pytest.mark.parametrize(
    "description",
    [
        "```",
        "~~~ a",
        "# a",
        "> a",
        "- a",
        "+",
        "12) a",
        "---",
        "* * *",
        "[a]: b",
        "<!-- a",
        "<script>",
        "<details>",
        "a <details> b",
        r"a \<details> b",
        r"a \\<details> b",
        "`a` <details> `b`",
        "` <details> b",
        r"\` <details> `",
        "`` ` <details> `` `",
    ],
)
def test_a_description_leaves_the_rest_of_the_readme_as_it_is(stamp: Stamp, description: str) -> None:
    def blocks(description: str, folder: str) -> tuple[str, str, str]:
        service = stamp({"service_name": "a", "description": description}, folder)
        html = MarkdownIt("commonmark").render((service / "README.md").read_text())
        before, start, rest = html.partition("\n<p>")
        return (before, *(start + rest).split("</p>\n", 1))

    before, said, after = blocks(description, "one")
    plain = blocks("plain", "two")
    assert (before, after) == (plain[0], plain[2])
    assert said.startswith("\n<p>") and not re.search("<(?!/?(p|code)>)", said)


def test_code_in_a_description_is_code_in_the_readme(stamp: Stamp) -> None:
    description = "Keeps `Map<key, value>` and *more*"
    assert f"\n\n{description}\n\n" in (stamp({"description": description}) / "README.md").read_text()


def test_the_defaults_are_valid_answers(stamp: Stamp) -> None:
    """With --defaults they are not checked, to lose no time."""
    answers = yaml.safe_load((stamp() / ".copier-answers.yml").read_text())
    stamp({name: answer for name, answer in answers.items() if name[0] != "_"}, "again")


def test_the_answers_file_stamps_the_same_again(stamp: Stamp) -> None:
    once = stamp(RIGHT["every_type"] | {"shared": SHARED}, "once")
    answers = yaml.safe_load((once / ".copier-answers.yml").read_text())
    again = stamp({name: answer for name, answer in answers.items() if name[0] != "_"}, "again")
    files = {path.relative_to(once) for path in once.rglob("*") if path.is_file()}
    assert files == {path.relative_to(again) for path in again.rglob("*") if path.is_file()}
    assert all((once / file).read_bytes() == (again / file).read_bytes() for file in files)


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("orders", "orders"),
        ("My Cool_App", "my-cool-app"),
        ("2024-app", "app"),
        ("2024", "my-service"),
        ("日本", "my-service"),
        ("json", "json-service"),
        ("x" * 23 + "-" + "y", "x" * 23),
    ],
)
def test_the_folder_gives_the_name(stamp: Stamp, folder: str, name: str) -> None:
    service = stamp(folder=folder)
    assert (service / "src" / name.replace("-", "_") / "service.py").exists()
    stamp({"service_name": name}, "checked")


def test_a_column_says_everything_that_was_answered(stamp: Stamp) -> None:
    tables = {
        "sessions": {
            "user": "-> users unique",
            "seen": "-> users optional",
            "kind": "enum(a,b c) unique = b c",
        },
        "users": {
            "email": " string( 255 )  optional   unique",
            "price": "decimal( 12 , 2 ) = 0",
            "token": "binary optional secret",
            "quoted": r'string(9) = "say \"hi\""',
            "word": "string(9) = unique",
            "words": 'string(9) = "a unique"',
            "choice": "enum(a,a index) = a index",
            "plain": "string(9) index = it's",
            "both": "string(9) unique index",
            "empty": "string(4) =",
            "empty_text": "text optional  =  ",
            "empty_json": 'string(4) unique = ""',
            "empty_index": "string(4) index optional=",
        },
    }
    service = stamp({"service_name": "a", "tables": tables})
    written = (service / "src/a/tables.py").read_text()
    for line in [
        'user = Column(BigInteger(), ForeignKey("users.id"), unique=True)',
        'seen = Column(BigInteger(), ForeignKey("users.id"), nullable=True, index=True)',
        'kind = Column(Enum("a", "b c"), unique=True, default="b c")',
        "email = Column(String(255), nullable=True, unique=True)",
        'price = Column(Numeric(12, 2), default="0")',
        "token = Column(Binary(), nullable=True, secret=True)",
        """quoted = Column(String(9), default='say "hi"')""",
        'word = Column(String(9), default="unique")',
        'words = Column(String(9), default="a unique")',
        'choice = Column(Enum("a", "a index"), default="a index")',
        """plain = Column(String(9), index=True, default="it's")""",
        "both = Column(String(9), unique=True)",
    ]:
        assert f"\n    {line}\n" in written


def test_a_table_comes_after_those_it_names(stamp: Stamp) -> None:
    tables = {
        "lines": {"order": "-> orders", "item": "-> items"},
        "orders": {"buyer": "-> users", "after": "-> orders optional"},
        "items": {"maker": "-> users optional"},
        "users": {"name": "string(20)"},
    }
    service = stamp({"service_name": "a", "tables": tables})
    migration = (service / "migrations/versions/0001_create_tables.py").read_text()
    order = ["users", "orders", "items", "lines"]
    assert re.findall(r'create_table\(\n +"(\w+)"', migration) == order
    assert re.findall(r'drop_table\("(\w+)"', migration) == order[::-1]
    assert (
        re.findall(r'^class \w+\(Table, name="(\w+)"', (service / "src/a/tables.py").read_text(), re.M)
        == order
    )


def test_a_table_may_have_a_name_that_python_reserves(stamp: Stamp) -> None:
    service = stamp(
        {"service_name": "a", "tables": {"class": {"import": "text"}, "items": {"class": "-> class"}}}
    )
    routes = service / "src/a/routes"
    assert (routes / "class_.py").exists()
    assert (routes / "items.py").exists()
    assert 'Router("class")' in (routes / "class_.py").read_text()
    tables = (service / "src/a/tables.py").read_text()
    assert 'class Class(Table, name="class"):\n    import_ = Column(Text(), name="import")\n' in tables


def test_the_form_knows_the_names_that_dbservice_reserves(stamp: Stamp) -> None:
    columns = {name: "text" for name in RESERVED_ATTRIBUTES if name.islower()}
    service = stamp({"service_name": "a", "tables": {"t": columns | {"match": "text"}}})
    table = loaded(service / "src/a/tables.py")["T"]
    assert table.__columns__.keys() == {*(f"{name}_" for name in columns), "match", *MANAGED_COLUMNS}
    assert set(table.__table__.columns.keys()) == {*columns, "match", *MANAGED_COLUMNS}


def test_the_form_names_constraints_as_dbservice_does(stamp: Stamp) -> None:
    service = stamp({"service_name": "a", "tables": WIDTHS})
    tables = loaded(service / "src/a/tables.py")["Table"].__metadata__.tables.values()
    named = {str(each.name) for table in tables for each in (*table.constraints, *table.indexes)}
    migration = (service / "migrations/versions/0001_create_tables.py").read_text()
    assert set(re.findall(r'op\.f\(\s*"(\w+)"', migration)) == named and max(map(len, named)) == 60


def test_a_service_that_owns_nothing_has_no_migration(stamp: Stamp) -> None:
    service = stamp({"service_name": "a", "tables": {}, "shared": SHARED})
    assert [path.name for path in (service / "migrations/versions").iterdir()] == [".gitkeep"]
    routes = {path.name: path.read_text() for path in (service / "src/a/routes").iterdir()}
    assert routes.keys() == {"__init__.py", "events.py", "import_.py"}
    assert '"""`/v1/events`: list, read. The table belongs to another service.' in routes["events.py"]
    assert not re.search(r"Writes|Create|DAL|@router\.(?!get)", routes["events.py"])
    assert '"""`/v1/import`: list, create, read, change, delete.' in routes["import_.py"]
    assert "DB_USER=a-rw" in (service / ".env.example").read_text()
    access = loaded(service / "src/a/access.py")
    events, imports = access["Events"], access["Import"]
    assert (events.__access__.mode, events.__access__.rows) == ("read", {})
    rows = {"platform": "twitch", "id": 5, "kind": "b"}
    assert (imports.__access__.mode, imports.__access__.rows) == ("read-write", rows)
    columns = {column.name: (repr(column.type), column.nullable) for column in events.__table__.columns}
    assert columns == {
        "id": ("BigInteger()", False),
        "kind": ("String(40)", False),
        "at": ("Timestamp()", False),
        "data": ("JSON()", True),
    }
    assert [column.name for column in imports.__table__.columns if column.info.get("secret")] == ["token"]


@pytest.mark.parametrize("cache", ["redis", "valkey"])
@pytest.mark.parametrize("shared", ["read", "read-write"])
def test_a_cache_has_a_client_and_an_account(stamp: Stamp, cache: str, shared: str) -> None:
    access = {"jobs": {"columns": {"id": "bigint"}, "access": shared}}
    answers = {"service_name": "a-b", "tables": {}, "shared": access}
    service, without = stamp(answers | {"cache": cache}), stamp(answers, "without")
    files = [{path.relative_to(each) for path in each.rglob("*")} for each in (service, without)]
    added = ["deploy/redis", "deploy/redis/users.acl", "tests/test_cache.py"]
    assert sorted(map(str, files[0] - files[1])) == added and not files[1] - files[0]
    project = tomllib.loads((service / "pyproject.toml").read_text())
    needed = project["tool"]["setuptools"]["dynamic"]["dependencies"]["file"]
    assert "src/dbservice/requirements-cache.txt" in needed
    assert "\nCACHE_USER=a-b-cache\n" in (service / ".env.example").read_text()
    assert ("`cache: Cache`" in (service / "README.md").read_text()) == (shared == "read-write")
    for file in ("pyproject.toml", ".env.example", "README.md"):
        assert not re.search("cache[^s]|redis|valkey", (without / file).read_text(), re.I)
    found = [each for each in loaded(service / "src/a_b/access.py").values() if hasattr(each, "__access__")]
    made = Service("a-b", MetaData(), access=module(*found), root=service)
    assert (service / "deploy/redis/users.acl").read_text() == acl_file(made)


@pytest.mark.parametrize("engine", ["postgresql", "mysql", "mariadb", "sqlite"])
def test_a_shell_can_load_every_line_of_the_settings(stamp: Stamp, engine: str) -> None:
    service = stamp({"service_name": "a-b", "database": engine, "cache": "redis"})
    text = (service / ".env.example").read_text()
    assert "set -a; . ./.env; set +a" in text
    settings = re.sub("^# (?=[A-Z_]+=)", "", text, flags=re.M)
    assert not re.search(r"^[^#\n]*[^#\w=./\n-]", settings, re.M)
    (service / ".env").write_text(re.sub("PASS=$", "PASS=secret", settings, flags=re.M))
    (service / "var").mkdir()
    command = ["env", "-i", "sh", "-c", "set -a; . ./.env; set +a; env -0"]
    done = subprocess.run(command, cwd=service, capture_output=True, text=True, check=True)
    assert not done.stderr
    names = set(re.findall("^([A-Z_]+)=", settings, re.M))
    loaded = dict(line.split("=", 1) for line in done.stdout.split("\0") if line)
    loaded = {name: value for name, value in loaded.items() if name in names}
    if engine == "sqlite":
        loaded["DB_NAME"] = str(service / loaded["DB_NAME"])
    needed = {name: loaded[name] for name in re.findall("^([A-Z_]+)=", text, re.M)}
    assert names == loaded.keys()
    assert Settings.load(loaded) == Settings.load(needed)  # what is commented out is the default


@pytest.mark.parametrize("engine", ["postgresql", "mysql", "mariadb", "sqlite"])
def test_each_container_has_its_own_account(stamp: Stamp, engine: str) -> None:
    """The running service is given no account of migrations or of an administrator; no file knows a password."""
    service = stamp({"service_name": "a-b", "database": engine, "cache": "redis"})
    files = {path.name: path.read_text() for path in service.glob(".env*.example")}
    accounts = {
        name: set(re.findall(r"^((?:\w+_)?(?:DB|CACHE)_(?:USER|PASS))=", text.replace("# ", ""), re.M))
        for name, text in files.items()
    }
    runtime, migrate = {"DB_USER", "DB_PASS"}, {"MIGRATE_DB_USER", "MIGRATE_DB_PASS"}
    admin, cache = {"ADMIN_DB_USER", "ADMIN_DB_PASS"}, {"CACHE_USER", "CACHE_PASS"}
    own = {".env.example": cache, ".env.admin.example": {f"ADMIN_{each}" for each in cache}}
    if engine != "sqlite":
        own[".env.example"] |= runtime
        own[".env.admin.example"] |= admin
        own[".env.migrate.example"] = migrate
    assert accounts == own
    assert not any(re.search("_PASS=.", text) for text in files.values())
    script = f"set -a; {re.findall('set -a; (.*set .a)', files['.env.admin.example'])[0]}; env -0"
    for name, text in files.items():
        (service / name.removesuffix(".example")).write_text(
            re.sub("PASS=$", "PASS=secret", text, flags=re.M)
        )
    (service / "var").mkdir()
    command = ["env", "-i", "sh", "-c", script]
    done = subprocess.run(command, cwd=service, capture_output=True, text=True, check=True)
    found = dict(line.split("=", 1) for line in done.stdout.split("\0") if line)
    settings = Settings.load(found | ({"DB_NAME": "x"} if engine == "sqlite" else {}))
    assert settings.cache_user == "a-b-cache" and settings.admin_cache_pass.get_secret_value() == "secret"
    assert engine == "sqlite" or settings.migrate_db_user == "a-b-migrate"
    ignored = (service / ".gitignore").read_text().splitlines()
    assert {".env", ".env.*", "!.env*.example*"} <= {*ignored}
