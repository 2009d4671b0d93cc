"""The legacy cases' database, and a real server for those that need one."""

from __future__ import annotations

from tests.support.served_gateway import one_server, serve, served, world  # noqa: F401 - fixtures
