"""The modern protocols. Each face is a table of routes over the one core, and knows nothing of the others."""

from __future__ import annotations

from collections.abc import Iterable

from flask import Flask

from importing.context import Context
from importing.errors import ApiError
from modern_api import grid, pages, people, serving, sessions, solivio, voucherify
from modern_api.routes import Face, Options, Reply

FACES: tuple[Face, ...] = (voucherify.FACE, grid.FACE)
# The faces that know who is asking by a cookie.
PEOPLE: tuple[people.Face, ...] = (sessions.FACE, solivio.FACE)


def mount(app: Flask, context: Context, options: Options) -> None:
    """Serve every face at its paths, whatever is asked for below them in its language, and the page about all."""
    app.url_map.converters["path"] = serving.Rest
    for face in FACES:
        serving.mount(app, context, face, options)
    for face_for_people in PEOPLE:
        people.mount(app, context, face_for_people, options.limiter)
    pages.mount(app, FACES, PEOPLE, options)


def unread(path: str, fault: ApiError) -> Reply | None:
    """The refusal of a request that could not be read, by the face below whose paths it was sent. None: no such face."""
    for face in FACES:
        if _is_below(path, face.below):
            return serving.refused(face, fault, face.new_request_id(), {})
    for face_for_people in PEOPLE:
        if _is_below(path, (*face_for_people.below, *(route.path for route in face_for_people.routes))):
            return people.unread(face_for_people, fault)
    return None


def _is_below(path: str, rules: Iterable[str]) -> bool:
    return any(path == rule or path.startswith(f"{rule}/") for rule in rules if "<" not in rule)
