"""The WSGI application with all protocols. `app:create_app()` is the entry for servers."""

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
    """The application, by default with the settings of the environment. Raises BadSettings."""
    settings = settings or load_settings()
    app = Flask("tillgate", static_folder=None)
    # A redirect would lose a client's POST.
    app.url_map.merge_slashes = False
    app.register_error_handler(HTTPException, _error_page)
    context = context or open_context(settings)
    limits = {
        Whose.USER: settings.rate_limit,
        Whose.ADDRESS: settings.rate_limit_address,
        Whose.LEGACY_USER: settings.legacy_rate_limit,
    }
    limiter = Limiter(store_at(settings.queue_url, settings.data_dir), limits)
    form_limits = FormLimits(max_body=settings.max_body, spool_dir=settings.data_dir)
    legacy_options = LegacyOptions(form_limits, settings.legacy_get, settings.legacy_status == "http", limiter)
    app.register_blueprint(legacy_blueprint(context, legacy_options))
    modern_api.register(app, context, ModernOptions(settings.max_body, settings.data_dir, limiter))
    if settings.trust_proxy:
        hops = settings.trust_proxy
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign]
    return app


def _error_page(error: HTTPException) -> Response:
    """The reply where no protocol answers, for example at another URL: a line of plain text."""
    return Response(f"{error.code} {error.name}\n", error.code, content_type="text/plain; charset=utf-8")
