"""A batch as a job stores it. Its JSON names never change: a worker may load what an earlier release queued."""

from __future__ import annotations

import io
import json
from typing import Any

from importing.jobs.batch_json import dump_batch, load_batch

FIELD: dict[str, Any] = {
    "name": "code",
    "kind": "key",
    "into": "column",
    "column": "",
    "limit": 255,
    "note": "",
    "label": "",
    "choices": [],
    "unique": False,
}
# What the first release queued, after migration 0006, which renames one member of it.
QUEUED: dict[str, Any] = {
    "account": 7,
    "user": "john1970",
    "face": "legacy",
    "headers": [{"position": 1, "field": FIELD}, {"position": 3, "field": None}],
    "delimited": {"delimiter": "|", "quotes": True, "multiline": False, "guarded": False},
    "mode": "update",
    "on_error": "skip",
    "keep_undo": True,
    "card_digits": None,
    "campaigns": [{"id": 3, "public_id": "898989889", "name": "Coffee", "type": "buyx", "items": {"tea": 4}}],
    "request_key": "k1",
    "since": 12,
    "charset": "Windows-1252",
    "names": ["Code", "Size"],
    "requirements": [{"fields": ["code"], "when": ["mode", "x"]}, {"fields": ["code"], "when": None}],
    "constants": [[FIELD, "Ann"]],
    "reference": ["code"],
    "codec": "cp1252",
}


def test_a_batch_of_an_earlier_release_is_loaded_and_dumped_under_the_same_names() -> None:
    batch = load_batch(json.dumps(QUEUED), io.BytesIO(b"1|2\n"), 4)
    assert json.loads(dump_batch(batch)) == QUEUED | {"delimited": QUEUED["delimited"] | {"has_absent": False}}
    assert load_batch(dump_batch(batch), batch.source.file, 4) == batch
