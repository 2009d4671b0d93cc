"""Before-images, and what undo reads from them: which customers a change touched, and what shall become of each.

`back` says for every customer that the change touched:
field   give fields back (`later`: the next change that wrote to the customer, NULL where none did)
remove  take away again: the change made the customer, or brought it back
keep    made by the change, but something else in force has touched it since
revive  the change took the customer away: bring it back
still   taken away before the change as it is now: nothing to do
gone    nothing can be given back: the customer has been taken away, or its code is somebody else's by now
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from storage.models import DOCUMENTS, IMAGE, PROFILE
from storage.workspace import Workspace

CHUNK = 500
KEYS = ("code", "card_number", "username_key")
PLAIN = (*PROFILE, "password_digest", "password_version", "pin_digest", "pin_version", *DOCUMENTS)


@dataclass(frozen=True, slots=True)
class Change:
    """One write transaction of a batch, and the range of customers that it made."""

    change: int
    first_created: int
    last_created: int


@dataclass(frozen=True, slots=True)
class Images:
    """A customer that something has written to since: before the change, after it, and now. Each maps IMAGE columns."""

    id: int
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    current: Mapping[str, Any]


def changes(work: Workspace, account: int, batch_id: str) -> list[Change]:
    """The changes of a batch, newest first."""
    return [
        Change(*row)
        for row in work.rows(
            "SELECT change, first_created, last_created FROM change "
            "WHERE account_id = :account AND batch_id = :batch ORDER BY change DESC",
            account=account,
            batch=batch_id,
        )
    ]


def gather(work: Workspace, account: int, change: Change, root: str, uniques: Sequence[int]) -> None:
    """Fill `back` with the customers that the change touched. `root` is the import that the undone batch descends from."""
    for table in ("back", "restore", "rekey"):
        work.execute(f"DELETE FROM {table}")
    gathered = work.execute(_gather_touched(len(uniques) > 0), account=account, change=change.change)
    if change.last_created >= change.first_created:
        gathered += work.execute(
            "INSERT INTO back(id, kind, later, moved, keyed, blocked) SELECT id, 'remove', NULL, 1, 0, 0 FROM customer "
            "WHERE account_id = :account AND id BETWEEN :first AND :last AND created = :change AND removed IS NULL "
            "ORDER BY id",
            account=account,
            change=change.change,
            first=change.first_created,
            last=change.last_created,
        )
    work.expect(gathered)
    work.analyze("back")
    # Touched by a batch in force that is not of this one's own chain of undos.
    work.execute(
        "UPDATE back SET kind = 'keep', moved = 0 WHERE kind = 'remove' AND EXISTS (SELECT 1 FROM snapshot n "
        "{then} change h ON h.account_id = n.account_id AND h.change = n.change "
        "{then} batch t ON t.account_id = h.account_id AND t.id = h.batch_id "
        "{then} batch r ON r.account_id = t.account_id AND r.id = t.root "
        "WHERE n.account_id = :account AND n.customer_id = back.id AND n.change > :change "
        "AND t.root <> :root AND r.status = 'imported')",
        account=account,
        change=change.change,
        root=root,
    )


def written_since(work: Workspace, account: int, change: int) -> Iterator[Images]:
    """The customers of kind `field` that something has written to since, in order."""
    sides = ("b", "a", "c")
    names = ", ".join(f"{side}.{name}" for side in sides for name in IMAGE)
    for number, *values in work.rows(
        f"SELECT k.id, {names} FROM back k "
        "{then} snapshot b ON b.account_id = :account AND b.change = :change AND b.customer_id = k.id "
        "{then} snapshot a ON a.account_id = :account AND a.change = k.later AND a.customer_id = k.id "
        "{then} customer c ON c.account_id = :account AND c.id = k.id "
        "WHERE k.kind = 'field' AND k.later IS NOT NULL ORDER BY k.id",
        account=account,
        change=change,
    ):
        size = len(IMAGE)
        yield Images(number, *(_image(values[start : start + size]) for start in range(0, 3 * size, size)))


def restore(work: Workspace, images: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
    """Note what a customer that was written to since shall be: (id, IMAGE columns)."""
    chunks = _chunks((number, *(dumped(image[name]) for name in IMAGE)) for number, image in images)
    work.fill("restore", ("id", *IMAGE), chunks)
    work.analyze("restore")


def ask_keys(work: Workspace, account: int, change: int, uniques: Sequence[int]) -> None:
    """Fill `rekey` with the keys and unique values that customers shall have again, and mark those somebody else has."""
    kinds = [(name, f"b.{name}", f"c.{name}", f"b.{name}") for name in ("code", "card_number")]
    # A user name that is only spelled in another case has the same key.
    kinds.append(("username_key", "b.username_key", "c.username_key", "b.customer_username"))
    for number in uniques:
        before, current = (unique_of(side, number, work.sqlite) for side in ("b", "c"))
        kinds.append((f"custom_field_{number}", before, current, before))
    for source in SOURCES:
        for kind, before, current, shown in kinds:
            differs = f"{before} {{differs}} {current}"
            if kind == "username_key":
                differs = f"({differs} OR b.customer_username {{differs}} c.customer_username)"
            work.execute(
                f"INSERT INTO rekey(id, kind, value, shown, blocked) SELECT k.id, '{kind}', {before}, {shown}, 0 "
                f"FROM back k {{then}} {source.joined} {{then}} customer c ON c.account_id = :account AND c.id = k.id "
                f"WHERE k.keyed = 1 AND {source.where} AND {differs}",
                account=account,
                change=change,
            )
    work.analyze("rekey")
    _block(work, account, uniques)


def _block(work: Workspace, account: int, uniques: Sequence[int]) -> None:
    # A key is to be had when nobody holds it, or its holder gives it up; who is blocked gives nothing up: again.
    gives_up = (
        "EXISTS (SELECT 1 FROM back g WHERE g.id = {owner} AND g.kind = 'remove') "
        "OR EXISTS (SELECT 1 FROM rekey g WHERE g.id = {owner} AND g.kind = rekey.kind AND g.blocked = 0)"
    )
    statements = [
        f"UPDATE rekey SET blocked = 1 WHERE blocked = 0 AND kind = '{name}' AND value IS NOT NULL AND EXISTS ("
        f"SELECT 1 FROM customer o WHERE o.account_id = :account AND o.{name} = rekey.value AND o.id <> rekey.id "
        f"AND NOT ({gives_up.format(owner='o.id')}))"
        for name in KEYS
    ] + [
        f"UPDATE rekey SET blocked = 1 WHERE blocked = 0 AND kind = 'custom_field_{number}' AND value IS NOT NULL "
        f"AND EXISTS (SELECT 1 FROM unique_value o WHERE o.account_id = :account AND o.number = {number} "
        f"AND o.value = rekey.value AND o.customer_id <> rekey.id AND NOT ({gives_up.format(owner='o.customer_id')}))"
        for number in uniques
    ]
    # Without its code a customer cannot come back, and gives none of its other keys up or asks for them.
    lost = "SELECT id FROM rekey WHERE kind = 'code' AND blocked = 1"
    statements += [
        f"UPDATE back SET kind = 'gone', blocked = 1 WHERE kind = 'revive' AND id IN ({lost})",
        "UPDATE rekey SET blocked = 2 WHERE blocked <> 2 AND kind <> 'code' "
        "AND id IN (SELECT id FROM back WHERE kind = 'gone' AND blocked = 1)",
    ]
    while sum(work.execute(statement, account=account) for statement in statements):
        pass


def blocked(work: Workspace, account: int, change: int) -> Iterator[tuple[int, str, str, str | None]]:
    """(customer, its code, kind of key, what stands now) of keys to give back that somebody else has by now."""
    unique = "json_extract(c.custom_fields, '$.' || r.kind)" if work.sqlite else "c.custom_fields ->> r.kind"
    return work.rows(
        "SELECT r.id, coalesce(c.code, b.code), r.kind, CASE r.kind WHEN 'code' THEN c.code "
        "WHEN 'card_number' THEN c.card_number WHEN 'username_key' THEN c.customer_username "
        f"ELSE {unique} END FROM rekey r {{then}} customer c ON c.account_id = :account AND c.id = r.id "
        "LEFT JOIN snapshot b ON b.account_id = :account AND b.change = :change AND b.customer_id = r.id "
        "WHERE r.blocked = 1 ORDER BY r.id, r.kind",
        account=account,
        change=change,
    )


def codes_given_back(work: Workspace) -> Iterator[tuple[int, str]]:
    """(customer, code) of the customers whose code an undo gives back."""
    return work.rows("SELECT id, value FROM rekey WHERE kind = 'code' AND blocked = 0 AND value IS NOT NULL")


def kept(work: Workspace, account: int, change: int) -> Iterator[tuple[int, str]]:
    """(customer, code) of the customers that stay though the change made them, or stay away for another reason."""
    return work.rows(
        "SELECT k.id, coalesce(c.code, b.code, '') FROM back k {then} customer c ON c.account_id = :account AND c.id = k.id "
        "LEFT JOIN snapshot b ON b.account_id = :account AND b.change = :change AND b.customer_id = k.id "
        "WHERE k.kind IN ('keep', 'gone') AND k.blocked = 0 ORDER BY k.id",
        account=account,
        change=change,
    )


def _unmark_blocked(work: Workspace, account: int, change: int) -> None:
    # A customer is marked because its custom fields differ; not where only a value differs that somebody else has now.
    blocked_values: dict[int, list[Any]] = {}
    for number, kind, before, current in work.rows(
        "SELECT r.id, r.kind, b.custom_fields, c.custom_fields FROM rekey r "
        "{then} snapshot b ON b.account_id = :account AND b.change = :change AND b.customer_id = r.id "
        "{then} customer c ON c.account_id = :account AND c.id = r.id "
        "{then} back k ON k.id = r.id AND k.kind = 'field' AND k.later IS NULL "
        f"WHERE r.blocked = 1 AND r.kind LIKE 'custom_field_%' AND NOT ({_REST_DIFFERS}) ORDER BY r.id",
        account=account,
        change=change,
    ):
        documents = blocked_values.setdefault(number, [dict(document(before)), dict(document(current))])
        for values in documents:
            values.pop(kind, None)
    unmoved = [number for number, (before, current) in blocked_values.items() if before == current]
    work.execute("DELETE FROM bad")
    work.fill("bad", ("row",), [[(number,) for number in unmoved]])
    work.execute('UPDATE back SET moved = 0 WHERE id IN (SELECT "row" FROM bad)')


def mark_moved(work: Workspace, account: int, change: int, campaigns: Sequence[int], sign: int) -> None:
    """Mark the customers to whom something comes back: a field (most are marked already), a key, points, an enrolment."""
    _unmark_blocked(work, account, change)
    work.execute(
        "UPDATE back SET moved = 1 WHERE moved = 0 AND EXISTS (SELECT 1 FROM ledger_entry e "
        "WHERE e.account_id = :account AND e.change = :change AND e.customer_id = back.id)",
        account=account,
        change=change,
    )
    for campaign in campaigns:
        work.execute(
            "UPDATE back SET moved = 1 WHERE moved = 0 AND EXISTS (SELECT 1 FROM enrolment e "
            "WHERE e.account_id = :account AND e.customer_id = back.id AND e.campaign_id = :campaign AND e.uses = :uses)",
            account=account,
            campaign=campaign,
            uses=1 if sign < 0 else 0,
        )
    work.execute("UPDATE back SET moved = 1 WHERE moved = 0 AND id IN (SELECT id FROM rekey WHERE blocked = 0)")
    work.execute(
        "UPDATE back SET moved = 1 WHERE moved = 0 AND kind = 'field' AND id IN (SELECT b.id FROM restore b "
        f"{{then}} customer c ON c.account_id = :account AND c.id = b.id WHERE {_PLAIN_DIFFERS})",
        account=account,
    )


def mark_conflicts(work: Workspace, customers: Iterable[int]) -> None:
    """Mark the customers that keep a value which the change did not write, or miss a key that somebody else has."""
    work.execute("DELETE FROM bad")
    work.fill("bad", ("row",), [[(number,) for number in customers]])
    work.execute('UPDATE back SET blocked = 1 WHERE id IN (SELECT "row" FROM bad)')
    work.execute("UPDATE back SET blocked = 1 WHERE id IN (SELECT id FROM rekey WHERE blocked = 1)")


def count(work: Workspace) -> tuple[int, int, int]:
    """How many customers are restored, removed, and kept as they are against the undo's wish."""
    return (
        work.number("SELECT count(*) FROM back WHERE moved = 1 AND kind IN ('field', 'revive')"),
        work.number("SELECT count(*) FROM back WHERE kind = 'remove'"),
        work.number(
            "SELECT count(*) FROM back WHERE kind IN ('keep', 'gone') OR (kind = 'field' AND moved = 0 AND blocked = 1)"
        ),
    )


@dataclass(frozen=True, slots=True)
class Source:
    """Where `b`, what a customer shall be again, comes from, and for whom."""

    joined: str
    where: str


SOURCES = (
    Source(
        "snapshot b ON b.account_id = :account AND b.change = :change AND b.customer_id = k.id",
        "(k.kind = 'revive' OR (k.kind = 'field' AND k.later IS NULL))",
    ),
    Source("restore b ON b.id = k.id", "k.kind = 'field'"),
)

# Secrets are compared by version, which raising a digest does not change.
_PLAIN_DIFFERS = " OR ".join(f"b.{name} <> c.{name}" for name in PLAIN if not name.endswith("_digest"))
_REST_DIFFERS = " OR ".join(
    f"b.{name} <> c.{name}" for name in PLAIN if not name.endswith("_digest") and name != "custom_fields"
)
_KEY_DIFFERS = " OR ".join(f"b.{name} {{differs}} c.{name}" for name in (*KEYS, "customer_username"))
_LATER = (
    "SELECT min(n.change) FROM snapshot n "
    "WHERE n.account_id = :account AND n.customer_id = b.customer_id AND n.change > :change"
)


def _gather_touched(uniques: bool) -> str:
    keyed = f"{_KEY_DIFFERS} OR b.custom_fields <> c.custom_fields" if uniques else _KEY_DIFFERS
    return (
        "INSERT INTO back(id, kind, later, moved, keyed, blocked) SELECT q.id, q.kind, q.later, "
        "CASE WHEN q.kind IN ('remove', 'revive') OR (q.kind = 'field' AND q.later IS NULL AND q.differs) "
        "THEN 1 ELSE 0 END, CASE WHEN q.later IS NOT NULL OR q.keyed THEN 1 ELSE 0 END, 0 "
        "FROM (SELECT b.customer_id AS id, CASE WHEN c.removed = :change THEN 'revive' "
        "WHEN c.removed IS NOT NULL AND b.removed IS NOT NULL THEN 'still' "
        "WHEN c.removed IS NOT NULL THEN 'gone' WHEN b.removed IS NOT NULL THEN 'remove' ELSE 'field' END AS kind, "
        f"({_LATER}) AS later, ({_PLAIN_DIFFERS}) AS differs, ({keyed}) AS keyed "
        "FROM snapshot b {then} customer c ON c.account_id = :account AND c.id = b.customer_id "
        "WHERE b.account_id = :account AND b.change = :change) q ORDER BY q.id"
    )


def unique_of(side: str, number: int, sqlite: bool) -> str:
    name = f"custom_field_{number}"
    return f"json_extract({side}.custom_fields, '$.{name}')" if sqlite else f"({side}.custom_fields ->> '{name}')"


def _image(values: Sequence[Any]) -> dict[str, Any]:
    image = dict(zip(IMAGE, values, strict=True))
    for name in DOCUMENTS:
        image[name] = document(image[name])
    return image


def document(value: Any) -> Mapping[str, Any]:
    parsed: Mapping[str, Any] = json.loads(value) if isinstance(value, str) else value
    return parsed


def dumped(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) if isinstance(value, Mapping) else value


def _chunks(rows: Iterable[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    chunk: list[tuple[Any, ...]] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
