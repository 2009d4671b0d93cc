"""A batch as JSON and back: what a job stores beside its data, so that any host can continue it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, BinaryIO

from importing.batch import Batch, Campaign, CampaignType, Delimited, Header, Mode, OnError, Requirement, Source
from importing.fields import Field, FieldDestination, FieldKind

# What fields of a batch are called in the JSON: an earlier release may have queued the job.
STORED_NAMES = {"last_change": "since", "protocol": "face"}


def dump_batch(batch: Batch) -> str:
    """The batch as JSON, without its data."""
    values = batch._asdict() | {
        "headers": [asdict(header) for header in batch.headers],
        "delimited": asdict(batch.delimited),
        "requirements": [asdict(requirement) for requirement in batch.requirements],
        "campaigns": [asdict(campaign) | {"items": dict(campaign.items)} for campaign in batch.campaigns],
        "constants": [(asdict(field), value) for field, value in batch.constants],
    }
    # The row of the batch has the origin and the digest; the data are stored apart.
    del values["source"], values["request_digest"], values["origin"]
    stored = {STORED_NAMES.get(name, name): value for name, value in values.items()}
    return json.dumps(stored | {"codec": batch.source.charset}, ensure_ascii=False, separators=(",", ":"))


def load_batch(text: str, file: BinaryIO, size: int) -> Batch:
    """The batch that was dumped, with a file of its data and their size in bytes."""
    values: dict[str, Any] = json.loads(text)
    source = Source(file, values.pop("codec"), size)
    values |= {name: values.pop(stored_name) for name, stored_name in STORED_NAMES.items()}
    return Batch(
        **values
        | {
            "source": source,
            "headers": tuple(
                Header(header["position"], header["field"] and _load_field(header["field"]))
                for header in values["headers"]
            ),
            "delimited": Delimited(**values["delimited"]),
            "mode": Mode(values["mode"]),
            "on_error": OnError(values["on_error"]),
            "campaigns": tuple(
                Campaign(**campaign | {"type": CampaignType(campaign["type"])}) for campaign in values["campaigns"]
            ),
            "names": tuple(values["names"]),
            "requirements": tuple(
                Requirement(tuple(requirement["fields"]), requirement["when"] and tuple(requirement["when"]))
                for requirement in values["requirements"]
            ),
            "constants": tuple((_load_field(field), value) for field, value in values["constants"]),
            "reference": tuple(values["reference"]),
        }
    )


def _load_field(values: dict[str, Any]) -> Field:
    enums = {"kind": FieldKind(values["kind"]), "into": FieldDestination(values["into"])}
    return Field(**values | enums | {"choices": tuple(values["choices"])})
