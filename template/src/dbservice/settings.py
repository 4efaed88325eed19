"""Settings, read from environment variables only here; an invalid or missing one stops startup with a one-line error."""

import os
import re
import ssl
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from math import ceil
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from .addresses import Address, addresses, check_host, check_hosts, check_ports

# Where the database is a file there is no server: its variables are ignored.
SERVER = re.compile("((MIGRATE|ADMIN)_)?DB_(HOST|PORT|USER|PASS|SSL_.*|READ_.*)")
DEFAULTS = {"postgresql": ("localhost", "5432"), "mysql": ("localhost", "3306"), "sqlite": ("", "")}
FILES = {name for name, (host, _) in DEFAULTS.items() if not host}

# Kubernetes sets X_PORT to such a URL in every pod of a namespace with a Service named "x".
LINK = re.compile("(tcp|udp|sctp)://")

# Values and name suffixes that other tools use, for hints in error messages.
VALUES = {"postgres": "postgresql", "mariadb": "mysql", "galera": "mysql", "sqlite3": "sqlite"}
VALUES |= {"verify-ca": "verify-full", "prefer": "require", "warn": "warning", "critical": "error"}
_SYNONYMS = {"PASSWORD": "PASS", "PWD": "PASS", "USERNAME": "USER", "HOSTNAME": "HOST", "SERVER": "HOST"}
_SYNONYMS |= {"DATABASE": "NAME", "ENGINE": "TYPE", "POOL": "POOL_SIZE", "RETRIES": "MAX_RETRIES"}


class SettingsError(Exception):
    """A one-line message: each invalid variable, its value (never a secret) and what is allowed."""


def available_cpus(limit: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """The number of CPU cores this process may use, with the CPU limit of its container."""
    count = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    try:
        quota, period = map(int, limit.read_text().split())
    except (OSError, ValueError):  # no such file, or "max"
        return count
    return max(1, min(count, ceil(quota / period)))


def _text(value: str) -> str:
    if not value.isprintable():
        raise ValueError("it has a control character")
    return value


Text = Annotated[str, AfterValidator(_text), Field(description="printable text")]
Host = Annotated[
    str, AfterValidator(check_host), Field(description="a host's name or address, without a port")
]
Hosts = Annotated[
    str,
    AfterValidator(check_hosts),
    Field(description="a host's name or address, without a port; or several, with commas between them"),
]
Port = Annotated[int, Field(ge=1, le=65535, description="a whole number from 1 to 65535")]
Ports = Annotated[
    str,
    AfterValidator(check_ports),
    Field(description="a whole number from 1 to 65535, or one for each host, with commas between them"),
]
Secret = Annotated[SecretStr, Field(description="a password, here or in the file that {}_FILE names")]
DatabaseType = Annotated[Literal["postgresql", "mysql", "sqlite"], BeforeValidator(str.lower)]
SslMode = Annotated[Literal["disable", "require", "verify-full"], BeforeValidator(str.lower)]
LogLevel = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(str.lower)]
LogFormat = Annotated[Literal["text", "json"], BeforeValidator(str.lower)]


class Settings(BaseSettings):
    """Each attribute is read from the variable of the same name in upper case. Error messages quote `description`."""

    model_config = SettingsConfigDict(
        frozen=True, alias_generator=str.upper, hide_input_in_errors=True, validate_default=False
    )

    db_type: DatabaseType = Field(description="postgresql, mysql or sqlite")
    db_host: Hosts = Field(default_factory=lambda known: DEFAULTS[known["db_type"]][0])
    db_port: Ports = Field(default_factory=lambda known: DEFAULTS[known["db_type"]][1])
    db_name: Text = Field(description="the database's name, with DB_TYPE=sqlite the path of its file")
    db_user: Text = Field(description="the account's name")
    db_pass: Secret
    db_pool_size: Annotated[int, Field(ge=2, le=1000, description="a whole number from 2 to 1000")] = Field(
        default_factory=lambda: min(2 * available_cpus() + 1, 1000)
    )
    db_max_retries: int = Field(5, ge=0, description="a whole number, 0 or more")
    db_retry_delay: float = Field(5.0, ge=0, le=3600, description="seconds from 0 to 3600")
    db_ssl_mode: SslMode = Field("disable", description="disable, require or verify-full")
    db_ssl_ca: Path | None = Field(None, description="a PEM file, with DB_SSL_MODE=verify-full")
    db_read_host: Hosts = Field(default_factory=lambda known: known["db_host"])
    db_read_port: Ports = Field(default_factory=lambda known: known["db_port"], validate_default=True)
    migrate_db_user: Text = ""
    migrate_db_pass: Secret = Field(SecretStr(""), validate_default=True)
    admin_db_user: Text = ""
    admin_db_pass: Secret = SecretStr("")
    db_single_account: bool = Field(False, description="true or false")
    replicas: int = Field(1, ge=1, le=1000, description="a whole number from 1 to 1000")
    migrate_lock_timeout: float = Field(60.0, ge=0, le=86400, description="seconds from 0 to 86400")
    cache_host: Host = ""
    cache_port: Port = 6379
    cache_user: Text = ""
    cache_pass: Secret = SecretStr("")
    cache_ssl_mode: SslMode = Field("disable", description="disable, require or verify-full")
    cache_ssl_ca: Path | None = Field(None, description="a PEM file, with CACHE_SSL_MODE=verify-full")
    admin_cache_user: Text = ""
    admin_cache_pass: Secret = SecretStr("")
    log_level: LogLevel = Field("info", description="debug, info, warning or error")
    log_format: LogFormat = Field("text", description="text or json")
    host: Host = "127.0.0.1"
    port: Port = 8000
    shutdown_delay: float = Field(5.0, ge=0, le=3600, description="seconds from 0 to 3600")

    _files: dict[str, str] = PrivateAttr(default_factory=dict)
    """The files that variables with the suffix _FILE name."""
    _password: str = PrivateAttr("DB_PASS")
    """The variable of `db_pass`."""

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> Self:
        """The settings in `environ`, by default `os.environ`. Raises SettingsError."""
        environ = os.environ if environ is None else environ
        values, wrong = _read(environ)
        settings = None
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            for each in error.errors():
                name = str(each["loc"][0]).upper()  # a default is located by its attribute
                if each["type"] != "default_factory_not_called":  # it follows from another error
                    wrong.setdefault(name, _sentence(name, values.get(name, ""), each))
        if wrong or settings is None:
            raise SettingsError("; ".join(wrong[name] for name in VARIABLES if name in wrong))
        files = {name: environ.get(f"{name}_FILE", "") for name in SECRETS if values.get(name)}
        settings._files = {name: file for name, file in files.items() if file}
        return settings

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_: object,
        **__: object,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)  # load() passes all values: no .env file, nothing read twice

    @field_validator("db_name")
    @classmethod
    def _name(cls, value: str, info: ValidationInfo) -> str:
        if "://" in value:
            raise ValueError("it is a URL")
        if info.data.get("db_type") not in FILES:
            return value
        if value.startswith((":memory:", "file:")):
            raise ValueError("in memory each connection would have an empty database of its own")
        path = Path(value).absolute()
        if path.is_dir() or not path.parent.is_dir():
            raise ValueError("it is a folder" if path.is_dir() else "its folder does not exist")
        return str(path)

    @field_validator("db_port", "db_read_port")
    @classmethod
    def _port_for_each_host(cls, value: str, info: ValidationInfo) -> str:
        name = str(info.field_name).removesuffix("port") + "host"
        ports, hosts = value.count(",") + 1, info.data.get(name, "").count(",") + 1
        if name in info.data and ports not in (1, hosts):
            if value == info.data.get("db_port"):  # by default
                raise PydanticCustomError("missing", "")
            raise ValueError(f"{name.upper()} names {hosts}")
        return value

    @field_validator("db_ssl_ca", "cache_ssl_ca")
    @classmethod
    def _ca(cls, value: Path, info: ValidationInfo) -> Path:
        name = f"{str(info.field_name).removesuffix('_ca')}_mode"
        if info.data.get(name, "verify-full") != "verify-full":
            raise ValueError(f"with {name.upper()}={info.data[name]} nothing would be verified")
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(value)
        except ssl.SSLError:
            raise ValueError("it contains no certificate") from None
        except OSError as error:
            raise ValueError(f"it cannot be read: {error.strerror}") from None
        return value.absolute()

    @field_validator("migrate_db_pass")
    @classmethod
    def _pair(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        user = info.data.get("migrate_db_user", value)
        if user and not value:
            raise PydanticCustomError("missing", "")
        if value and not user:
            raise ValueError("MIGRATE_DB_USER is not set")
        return value

    @property
    def is_file(self) -> bool:
        """Whether the database is a file, which no other service uses."""
        return self.db_type in FILES

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The servers of DB_HOST, in the order in which they are tried; none where the database is a file."""
        return addresses(self.db_host, self.db_port)

    @property
    def read_addresses(self) -> tuple[Address, ...]:
        """The same of DB_READ_HOST."""
        return addresses(self.db_read_host, self.db_read_port)

    @property
    def has_replica(self) -> bool:
        """Whether reads have servers of their own."""
        return self.read_addresses != self.addresses

    @property
    def target(self) -> str:
        """The URL of the database without its password, for messages only."""
        return self._target(self.addresses)

    @property
    def read_target(self) -> str:
        """The same for the server that reads use."""
        return self._target(self.read_addresses)

    def _target(self, servers: Sequence[Address]) -> str:
        if not servers:
            return f"{self.db_type}:///{self.db_name}"
        return f"{self.db_type}://{self.db_user}@{','.join(map(str, servers))}/{self.db_name}"

    @property
    def password_may_change(self) -> bool:
        """Whether the password of `db_user` is in a file, which may get a new one."""
        return self._password in self._files

    def with_new_password(self) -> Self | None:
        """The settings with the password that the file of DB_PASS_FILE holds now; None if it is the same, or cannot be read."""
        password = self._in_file(self._password)
        if password in ("", self.db_pass.get_secret_value()):
            return None
        return self.model_copy(update={"db_pass": SecretStr(password)})

    def cache_password(self) -> str:
        """The password of `cache_user`, as the file of CACHE_PASS_FILE holds it now, if there is one."""
        return self._in_file("CACHE_PASS") or self.cache_pass.get_secret_value()

    def _in_file(self, name: str) -> str:
        """What the file of a secret holds now; empty if there is none, or it cannot be read."""
        try:
            return _secret(name, "", self._files.get(name, ""))
        except ValueError:
            return ""

    def with_account(self, user: str, password: SecretStr, variable: str = "") -> Self:
        """The settings with another account, whose password is that of a `variable`, or of none."""
        other = self.model_copy(update={"db_user": user, "db_pass": password})
        other._password = variable
        return other

    def for_migration(self) -> Self:
        """The settings with the account in `migrate_db_user`. Raises SettingsError if it is not set, or not another account
        than `db_user`; a file has no accounts, and with `db_single_account` there is one."""
        if self.db_type in FILES or (self.db_single_account and not self.migrate_db_user):
            return self
        if not self.migrate_db_user:
            raise SettingsError(
                "MIGRATE_DB_USER is not set: migrations need an account of their own, which owns the tables; on a server of"
                " your own DB_SINGLE_ACCOUNT=true lets DB_USER migrate and serve"
            )
        if self.migrate_db_user == self.db_user and not self.db_single_account:
            raise SettingsError(
                f"MIGRATE_DB_USER is {self.db_user!r}, as DB_USER: migrations need another account than the service"
            )
        return self.with_account(self.migrate_db_user, self.migrate_db_pass, "MIGRATE_DB_PASS")

    def for_administration(self) -> Self:
        """The settings with the account in `admin_db_user`. Raises SettingsError if it is not set."""
        if not self.admin_db_user:
            raise SettingsError(
                "ADMIN_DB_USER is not set: name the administrator's account, its password in ADMIN_DB_PASS"
            )
        return self.with_account(self.admin_db_user, self.admin_db_pass, "ADMIN_DB_PASS")


VARIABLES = tuple(name.upper() for name in Settings.model_fields)
SECRETS = {name for name in VARIABLES if name.endswith("_PASS")}


def _read(environ: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The values of all non-empty variables, and an error message for each that cannot be read."""
    file = environ.get("DB_TYPE", "").lower() in FILES
    ignored = {name for name in VARIABLES if file and SERVER.fullmatch(name)}
    for place in ("DB_READ", "CACHE"):
        if LINK.match(environ.get(f"{place}_PORT", "")) and not environ.get(f"{place}_HOST"):
            ignored.add(f"{place}_PORT")  # set by Kubernetes, not by the user
    values = {"DB_USER": "", "DB_PASS": ""} if file else {}
    wrong: dict[str, str] = {}
    for name in (name for name in VARIABLES if name not in ignored):
        value = environ.get(name, "")
        if name in SECRETS:
            try:
                value = _secret(name, value, environ.get(f"{name}_FILE", ""))
            except ValueError as error:
                wrong[name] = str(error)
        if value:
            values[name] = value
    for name, value in environ.items():
        meant = _meant(name)
        if meant and value and not LINK.match(value) and meant not in values and meant not in ignored:
            wrong.setdefault(meant, f"{name} is not read: did you mean {meant}?")
    return values, wrong


def _secret(name: str, value: str, file: str) -> str:
    """A secret from its variable or its file. Raises ValueError, without any part of the secret."""
    if value and file:
        raise ValueError(f"{name} and {name}_FILE are both set: allowed is one of the two")
    allowed = "allowed is a readable file that holds the password, in UTF-8"
    try:
        if not file:
            value.encode()  # bytes that are not UTF-8 fail here and not in a driver
            return value
        value = re.sub(r"\r?\n\Z", "", Path(file).read_bytes().decode())
    except OSError as error:
        # The value may be the password itself by mistake: only an obvious path is shown.
        shown = repr(file) if file.startswith(("/", "./", "../")) else "a file"
        raise ValueError(f"{name}_FILE names {shown}, {error.strerror}: {allowed}") from None
    except UnicodeError:
        raise ValueError(f"{name}{'_FILE' * bool(file)} is not in UTF-8: {allowed}") from None
    if not value or "\0" in value:
        raise ValueError(f"{name}_FILE names a file that {'holds a NUL' if value else 'is empty'}: {allowed}")
    return value


def _meant(name: str) -> str | None:
    """The variable that `name` probably misspells, or None."""
    found = re.fullmatch("(MIGRATE_DB_|MIGRATE_|ADMIN_DB_|ADMIN_CACHE_|DB_|CACHE_)(.+?)(_FILE)?", name)
    if not found:
        return None
    known = [each.removeprefix(found[1]) for each in VARIABLES if each.startswith(found[1])]
    near = get_close_matches(_SYNONYMS.get(found[2], found[2]), known, n=1, cutoff=0.75)
    return found[1] + near[0] if near else None


def _sentence(name: str, value: str, error: ErrorDetails) -> str:
    allowed = (Settings.model_fields[name.lower()].description or "").format(name)
    if error["type"] == "missing":
        return f"{name} is not set or is empty: allowed is {allowed}"
    why = ""
    if LINK.match(value) and name.endswith("_PORT"):
        why = f'Kubernetes sets it so beside a Service named "{name[:-5].lower()}": set {name} in the pod'
    elif value.lower() in VALUES and error["type"] == "literal_error":
        why = f"for {value} write {VALUES[value.lower()]}"
    elif error["type"] == "value_error":
        why = str(error.get("ctx", {}).get("error"))
    shown = repr(value[:100])
    if name in SECRETS:
        shown = "a value not shown"
    elif "@" in value or ("://" in value and not LINK.match(value)):  # a URL may contain a password
        shown = "a value not shown, for its @ or ://"
    return f"{name} holds {shown}: allowed is {allowed}" + f" ({why})" * bool(why)
