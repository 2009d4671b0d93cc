"""The settings: their sources, their forms, their defaults, and the secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from settings import BadSettings, Settings, load_settings, origins, secret_key, unknown_names

MB = 1024**2


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_defaults_are_the_documented_ones(tmp_path: Path) -> None:
    settings = load_settings()
    assert settings.data_dir == tmp_path / "data"
    assert settings.database_url == f"sqlite:///{tmp_path}/data/tillgate.db"
    assert settings.queue_url == f"sqlite:///{tmp_path}/data/queue.db"
    assert settings.secret is None
    assert (settings.max_body, settings.legacy_get, settings.legacy_status) == (128 * MB, True, "always-200")
    assert (settings.undo_keep, settings.undo_days, settings.write_wait, settings.job_lease) == (50, 30, 4.0, 60.0)
    assert (settings.trust_proxy, settings.log_format) == (0, "text")


def test_environment_is_stronger_than_dotenv_and_that_than_toml(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("tillgate.toml").write_text('undo_keep = 1\nundo_days = 1\nTILLGATE_TRUST_PROXY = 1\nmax_body = "1 MB"\n')
    Path(".env").write_text("TILLGATE_UNDO_KEEP=2\nTILLGATE_UNDO_DAYS=2\nOTHERS=1\n")
    monkeypatch.setenv("TILLGATE_UNDO_KEEP", "3")
    settings = load_settings()
    assert (settings.undo_keep, settings.undo_days, settings.trust_proxy, settings.max_body) == (3, 2, 1, MB)
    found = origins()
    assert (found["undo_keep"], found["undo_days"], found["trust_proxy"]) == ("environment", ".env", "tillgate.toml")
    assert found["write_wait"] == "default"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("128 MB", 128 * MB),
        ("128MB", 128 * MB),
        ("128m", 128 * MB),
        ("1000", 1000),
        ("1 GiB", 1024 * MB),
        ("2kb", 2048),
    ],
)
def test_size_has_a_unit_or_is_in_bytes(monkeypatch: pytest.MonkeyPatch, text: str, size: int) -> None:
    monkeypatch.setenv("TILLGATE_MAX_BODY", text)
    assert load_settings().max_body == size


@pytest.mark.parametrize(("word", "on"), [("on", True), ("off", False), ("OFF", False), ("yes", True), ("0", False)])
def test_switch_is_on_or_off(monkeypatch: pytest.MonkeyPatch, word: str, on: bool) -> None:
    monkeypatch.setenv("TILLGATE_LEGACY_GET", word)
    assert load_settings().legacy_get is on


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_BODY", "much"),
        ("MAX_BODY", "0"),
        ("LEGACY_GET", "maybe"),
        ("LEGACY_STATUS", "200"),
        ("LOG_FORMAT", "xml"),
        ("UNDO_KEEP", "-1"),
        ("WRITE_WAIT", "soon"),
        ("DATABASE_URL", "mysql://x/y"),
        ("DATABASE_URL", "/a/path"),
        ("QUEUE_URL", "amqp://x"),
    ],
)
def test_what_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"TILLGATE_{name}", value)
    with pytest.raises(BadSettings, match=rf"^TILLGATE_{name}: .*\.$") as refused:
        load_settings()
    assert "\n" not in str(refused.value)


def test_file_that_cannot_be_read_is_told() -> None:
    Path("tillgate.toml").write_text("undo_keep =")
    with pytest.raises(BadSettings, match="cannot be read"):
        load_settings()


def test_names_that_nothing_reads_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILLGATE_LOGFORMAT", "json")
    Path("tillgate.toml").write_text("undo_kept = 1\n")
    assert unknown_names() == ["TILLGATE_LOGFORMAT (environment)", "TILLGATE_UNDO_KEPT (tillgate.toml)"]


def test_secret_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "new")
    made = secret_key(settings)
    assert len(made) >= 32
    assert secret_key(settings) == made
    assert (tmp_path / "new" / "secret").stat().st_mode & 0o777 == 0o600
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["secret"]


def test_secret_that_is_set_is_used_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILLGATE_SECRET", "hush" * 10)
    settings = load_settings()
    assert secret_key(settings) == b"hush" * 10
    assert "hush" not in repr(settings)
    assert not (tmp_path / "data").exists()
