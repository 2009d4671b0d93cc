"""A batch as text and back: what a job keeps of it beside its data, so that any host can go on with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, BinaryIO

from importing.batch import (
    Batch,
    Campaign,
    CampaignType,
    Delimited,
    Header,
    Mode,
    OnError,
    Requirement,
    Source,
)
from importing.fields import Field, FieldDestination, FieldKind


def dump_batch(batch: Batch) -> str:
    """The batch as JSON, its data apart, and what only its row needs."""
    values = _members(batch) | {"codec": batch.source.charset}
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def load_batch(text: str, file: BinaryIO, size: int) -> Batch:
    """The batch that was dumped, with a file of its data and the size of that in bytes."""
    values: dict[str, Any] = json.loads(text)
    source = Source(file, values.pop("codec"), size)
    return Batch(
        **values
        | {
            "source": source,
            "headers": tuple(
                Header(header["position"], _optional_field(header["field"])) for header in values["headers"]
            ),
            "delimited": Delimited(**values["delimited"]),
            "mode": Mode(values["mode"]),
            "on_error": OnError(values["on_error"]),
            "campaigns": tuple(_campaign_from(campaign) for campaign in values["campaigns"]),
            "names": tuple(values["names"]),
            "requirements": tuple(_requirement_from(requirement) for requirement in values["requirements"]),
            "constants": tuple((_field_from(field), value) for field, value in values["constants"]),
            "reference": tuple(values["reference"]),
        }
    )


def _members(batch: Batch) -> dict[str, Any]:
    left_out = ("source", "request_digest", "origin")
    plain = {name: getattr(batch, name) for name in batch._fields if name not in left_out}
    return plain | {
        "headers": [asdict(header) for header in batch.headers],
        "delimited": asdict(batch.delimited),
        "requirements": [asdict(requirement) for requirement in batch.requirements],
        "campaigns": [asdict(campaign) | {"items": dict(campaign.items)} for campaign in batch.campaigns],
        "constants": [(asdict(field), value) for field, value in batch.constants],
    }


def _optional_field(values: Mapping[str, Any] | None) -> Field | None:
    return None if values is None else _field_from(values)


def _field_from(values: Mapping[str, Any]) -> Field:
    return Field(
        **dict(values)
        | {
            "kind": FieldKind(values["kind"]),
            "into": FieldDestination(values["into"]),
            "choices": tuple(values["choices"]),
        }
    )


def _campaign_from(values: Mapping[str, Any]) -> Campaign:
    return Campaign(**dict(values) | {"type": CampaignType(values["type"])})


def _requirement_from(values: Mapping[str, Any]) -> Requirement:
    when = values["when"]
    return Requirement(tuple(values["fields"]), (when[0], when[1]) if when else None)
