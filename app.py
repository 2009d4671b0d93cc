"""The WSGI application: settings -> core -> faces. `app:create_app()` is the entry for servers."""

from __future__ import annotations

from flask import Flask, Response
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.proxy_fix import ProxyFix

import modern_api
from importing.context import Context
from legacy_api.endpoint import LegacyOptions, legacy_blueprint
from legacy_api.form import FormLimits
from modern_api.routes import ModernOptions
from server.installation import open_context
from settings import Settings, load_settings
from transport.rate import Limiter, Whose, store_at


def create_app(settings: Settings | None = None, context: Context | None = None) -> Flask:
    """The application. Without arguments as the settings in force say; raises BadSettings."""
    settings = settings or load_settings()
    app = Flask("tillgate", static_folder=None)
    # A redirect would be a page, and a client's POST would be lost in it.
    app.url_map.merge_slashes = False
    app.register_error_handler(HTTPException, _error_page)
    context = context or open_context(settings)
    limiter = _limiter(settings)
    app.register_blueprint(legacy_blueprint(context, _legacy_options(settings, limiter)))
    modern_api.register(app, context, ModernOptions(settings.max_body, settings.data_dir, limiter))
    if settings.trust_proxy:
        hops = settings.trust_proxy
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign]
    return app


def _limiter(settings: Settings) -> Limiter:
    limits = {
        Whose.USER: settings.rate_limit,
        Whose.ADDRESS: settings.rate_limit_address,
        Whose.LEGACY_USER: settings.legacy_rate_limit,
    }
    return Limiter(store_at(settings.queue_url, settings.data_dir), limits)


def _legacy_options(settings: Settings, limiter: Limiter) -> LegacyOptions:
    limits = FormLimits(max_body=settings.max_body, spool_dir=settings.data_dir)
    return LegacyOptions(limits, settings.legacy_get, settings.legacy_status == "http", limiter)


def _error_page(error: HTTPException) -> Response:
    """What no face answers, such as another URL: a line of plain text."""
    text = f"{error.code} {error.name}\n"
    return Response(text, error.code, content_type="text/plain; charset=utf-8")
