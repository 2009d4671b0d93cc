"""The modern protocols. Each is a table of routes over the package `importing`, and imports no other."""

from __future__ import annotations

from flask import Flask, Response

from importing.context import Context
from importing.errors import ApiError
from modern_api import dispatch, documentation, grid, sessions, solivio, voucherify
from modern_api.routes import ModernOptions, ModernProtocol

PROTOCOLS: tuple[ModernProtocol, ...] = (voucherify.PROTOCOL, grid.PROTOCOL, sessions.PROTOCOL, solivio.PROTOCOL)


def register(
    app: Flask, context: Context, options: ModernOptions, protocols: tuple[ModernProtocol, ...] = PROTOCOLS
) -> None:
    """Serve each protocol, and the pages that describe them all."""
    app.url_map.converters.update(dispatch.CONVERTERS)
    for protocol in protocols:
        app.register_blueprint(dispatch.blueprint_of(protocol, context, options))
    app.register_blueprint(documentation.blueprint_of(protocols, options))


def early_refusal(path: str, error: ApiError) -> Response | None:
    """The refusal of a request that could not be read, by the protocol at its path. None: no modern protocol is there."""
    for protocol in PROTOCOLS:
        if protocol.serves_below(path):
            return dispatch.refusal(protocol, error, protocol.new_request_id(), {})
    return None
