"""The settings: `TILLGATE_…` from the environment, a `.env` file or `tillgate.toml`, in that order of strength."""

from __future__ import annotations

import os
import re
import secrets
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

PREFIX = "TILLGATE_"
DOTENV = Path(".env")
TOML = Path("tillgate.toml")

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]?i?)b?", re.IGNORECASE)
_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


class BadSettings(Exception):
    """Some settings cannot be used; the text is a sentence for each."""


def size_in_bytes(value: object) -> object:
    """`128 MB`, `128MB`, `128m` or a plain number of bytes; a kB is 1,024 bytes here."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("use a size such as 128 MB")
    match = _SIZE.fullmatch(str(value).strip())
    if match is None:
        raise ValueError("use a size such as 128 MB")
    return int(float(match.group(1)) * _UNITS[match.group(2).lower().rstrip("i")])


def rate(value: object) -> object:
    """`600 per minute` or `10/second`, as the library `limits` reads it; `none` for no limit."""
    text = str(value).strip().lower()
    if text in ("", "none"):
        return "none"
    from limits import parse_many

    try:
        [limit] = parse_many(text)
    except ValueError:
        limit = None
    if limit is None or limit.amount < 1:
        raise ValueError("use a rate such as 600 per minute, or none")
    return text


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


class Settings(BaseSettings):
    """All settings, with their defaults. Each field is `TILLGATE_` and its name in capitals."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=DOTENV,
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        toml_file=TOML,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        # The defaults are right, and looking at the rates would load `limits`: 70 ms of processor time.
        validate_default=False,
    )

    data_dir: Path = Field(
        default=Path("data"), description="database, queue, spooled files, the generated secret (mode 600)"
    )
    database_url: str = Field(
        default="", description="sqlite:///… or postgresql://…; without it SQLite in the data folder"
    )
    queue_url: str = Field(
        default="", description="sqlite:///…, redis://… or postgresql://…; without it SQLite in the data folder"
    )
    secret: SecretStr | None = Field(
        default=None, description="keys all digests; without it generated once in the data folder"
    )
    max_body: Annotated[int, BeforeValidator(size_in_bytes)] = Field(
        default=128 * 1024**2, gt=0, description="larger requests are refused; bytes, or as in 128 MB"
    )
    legacy_get: bool = Field(default=True, description="serve the legacy protocol by GET; JSONP needs it")
    legacy_status: Annotated[Literal["always-200", "http"], BeforeValidator(_lower)] = Field(
        default="always-200", description="http: 400, 401, 403, 405, 413 and 429 for client errors"
    )
    rate_limit: Annotated[str, BeforeValidator(rate)] = Field(
        default="6000 per minute", description="requests of a user to the modern protocols; or none"
    )
    rate_limit_address: Annotated[str, BeforeValidator(rate)] = Field(
        default="30000 per minute", description="requests of an address to them, signing in included; or none"
    )
    legacy_rate_limit: Annotated[str, BeforeValidator(rate)] = Field(
        default="none", description="requests of a user to the legacy protocol, such as 600 per minute; or none"
    )
    undo_keep: int = Field(default=50, ge=0, description="undo states kept an account: the newest so many")
    undo_days: int = Field(default=30, ge=0, description="and all that are younger than so many days")
    write_wait: float = Field(
        default=4.0, ge=0, le=3600, description="seconds that a synchronous post waits for its turn"
    )
    job_lease: float = Field(default=60.0, gt=0, description="seconds after which a silent worker's job is taken over")
    webhook_private: bool = Field(default=False, description="let webhooks lead to private and loopback addresses")
    trust_proxy: int = Field(default=0, ge=0, le=10, description="how many reverse proxies stand in front")
    log_format: Annotated[Literal["text", "json"], BeforeValidator(_lower)] = Field(
        default="text", description="or json"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is the library's
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, dotenv_settings, TomlConfigSettingsSource(settings_cls)

    @model_validator(mode="before")
    @classmethod
    def _long_names(cls, values: Mapping[str, object]) -> dict[str, object]:
        # tillgate.toml may spell a name as the environment does.
        short = {name: value for name, value in values.items() if not name.upper().startswith(PREFIX)}
        long = {n[len(PREFIX) :].lower(): v for n, v in values.items() if n.upper().startswith(PREFIX)}
        return {**long, **short}

    @model_validator(mode="after")
    def _urls(self) -> Settings:
        folder = self.data_dir.expanduser().absolute()
        object.__setattr__(self, "data_dir", folder)
        for name, file, backends in (
            ("database_url", "tillgate.db", {"sqlite", "postgresql"}),
            ("queue_url", "queue.db", {"sqlite", "postgresql", "redis", "rediss"}),
        ):
            url = getattr(self, name) or f"sqlite:///{folder / file}"
            object.__setattr__(self, name, url)
            if _backend(url) not in backends:
                raise ValueError(f"{name}: use {' or '.join(f'{b}://' for b in sorted(backends - {'rediss'}))}")
        return self


def load_settings() -> Settings:
    """The settings in force here and now. Raises BadSettings."""
    try:
        return Settings()
    except ValidationError as error:
        raise BadSettings(" ".join(_sentence(dict(found)) for found in error.errors())) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSettings(f"{TOML} or {DOTENV} cannot be read: {error}.") from None
    except OSError as error:
        raise BadSettings(f"{error.filename} cannot be read: {error.strerror}.") from None


def secret_key(settings: Settings) -> bytes:
    """The installation's secret: the setting, else the file `secret` in the data folder, made once with mode 600."""
    if settings.secret is not None:
        return settings.secret.get_secret_value().encode()
    file = settings.data_dir / "secret"
    if not file.exists():
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = file.with_name(f".secret-{secrets.token_hex(8)}")
        with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as handle:
            handle.write(secrets.token_urlsafe(48) + "\n")
            handle.flush()
            os.fsync(handle.fileno())
        try:
            # A link never replaces: of two processes that start at once, both end up with the first one's secret.
            os.link(draft, file)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return file.read_text().strip().encode()


def origins() -> dict[str, str]:
    """Where each setting's value comes from: environment, .env, tillgate.toml or default."""
    layers = _layers()
    found = {}
    for name in Settings.model_fields:
        spelling = (PREFIX + name).upper()
        found[name] = next((layer for layer, names in layers.items() if spelling in names), "default")
    return found


def unknown_names() -> list[str]:
    """Settings that nothing reads, as `NAME (source)`: most often a typing error."""
    known = {(PREFIX + name).upper() for name in Settings.model_fields}
    return [
        f"{name} ({layer})"
        for layer, names in _layers().items()
        for name in sorted(names)
        if name not in known and name.startswith(PREFIX) and not name.startswith(f"{PREFIX}TEST_")
    ]


def _layers() -> dict[str, set[str]]:
    toml = tomllib.loads(TOML.read_text(encoding="utf-8")) if TOML.is_file() else {}
    long = {name.upper() if name.upper().startswith(PREFIX) else (PREFIX + name).upper() for name in toml}
    return {
        "environment": {name.upper() for name, value in os.environ.items() if value},
        str(DOTENV): {name.upper() for name in DotEnvSettingsSource(Settings).env_vars},
        str(TOML): long,
    }


def _backend(url: str) -> str:
    try:
        return make_url(url).get_backend_name()
    except (ArgumentError, ValueError):
        return ""


def _sentence(error: Mapping[str, object]) -> str:
    where = error.get("loc")
    message = str(error.get("msg", "")).removeprefix("Value error, ").rstrip(".")
    if isinstance(where, tuple) and where:
        return f"{PREFIX}{str(where[0]).upper().removeprefix(PREFIX)}: {message[:1].lower()}{message[1:]}."
    name, _, rest = message.partition(": ")
    return f"{PREFIX}{name.upper()}: {rest}."
