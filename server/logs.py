"""Logs on standard error: a line for people, or an object of JSON for whatever collects them. No query string, ever."""

from __future__ import annotations

import json
import logging
import sys
import time
from types import TracebackType
from typing import Literal

ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class TextLines(logging.Formatter):
    """Time in UTC, level, logger and message; a traceback follows on lines of its own."""

    converter = time.gmtime  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__("%(asctime)sZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")

    def formatException(self, ei: ExceptionInfo) -> str:  # noqa: N802 - the name is the library's
        """A traceback. Of an error's text the first line: in those that follow, databases quote rows and values."""
        traceback = super().formatException(ei)
        error, seen = ei[1], set[int]()
        while error is not None and id(error) not in seen:
            seen.add(id(error))
            message = str(error)
            if "\n" in message:
                traceback = traceback.replace(message, message.partition("\n")[0])
            error = error.__cause__ or error.__context__
        return traceback


class JsonLines(TextLines):
    """One object a line: time, level, logger, message, and `error` with the traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": f"{self.formatTime(record, self.datefmt)}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def formatter(form: Literal["text", "json"]) -> logging.Formatter:
    """How lines look, as the setting says."""
    return JsonLines() if form == "json" else TextLines()


def configure(form: Literal["text", "json"]) -> None:
    """Send everything from a warning up to standard error. Not more: who starts a server may never read its pipe."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(form))
    logging.getLogger().handlers[:] = [handler]
