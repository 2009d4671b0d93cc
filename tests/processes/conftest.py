"""A real server with the demo accounts, for the tests of this folder."""

from __future__ import annotations

from tests.support.served_gateway import one_server, serve, served, world  # noqa: F401 - fixtures
