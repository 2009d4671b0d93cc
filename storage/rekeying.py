"""Keys and unique values that an undo gives back (`rekey`), and whether somebody else has them by now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from storage import uniques as unique_values
from storage.history import FROM_IMAGES, FROM_RESTORE, KEYS, PLAIN, document
from storage.models import DOCUMENTS
from storage.workspace import Workspace


def ask_keys(work: Workspace, account: int, uniques: Sequence[int]) -> int:
    """Fill `rekey` with the keys and unique values that customers shall have again, and mark those somebody else has.

    Returns how many were asked for.
    """
    kinds = [(name, f"b.{name}", f"c.{name}", f"b.{name}") for name in ("code", "card_number")]
    # A user name that is only spelled in another case has the same key.
    kinds.append(("username_key", "b.username_key", "c.username_key", "b.customer_username"))
    for number in uniques:
        before, current = (unique_values.value(number, side, work.sqlite) for side in ("b", "c"))
        kinds.append((unique_values.key(number), before, current, before))
    asked = 0
    sources = [(FROM_IMAGES, "k.keyed = 1 AND ")] + [(FROM_RESTORE, "")] * work.filled("restore")
    for source, keyed in sources:
        for kind, before, current, shown in kinds:
            differs = f"{before} {{differs}} {current}"
            if kind == "username_key":
                differs = f"({differs} OR b.customer_username {{differs}} c.customer_username)"
            asked += work.execute(
                f"INSERT INTO rekey(id, change, kind, value, shown, blocked) SELECT k.id, k.change, '{kind}', {before}, "
                f"{shown}, 0 FROM back k {{then}} {source.joined} "
                "{then} customer c ON c.account_id = :account AND c.id = k.id "
                f"WHERE {keyed}{source.where} AND {differs}",
                account=account,
            )
    for kind, before, shown in _of_removed(uniques, work.sqlite):
        asked += work.execute(
            f"INSERT INTO rekey(id, change, kind, value, shown, blocked) SELECT k.id, k.change, '{kind}', {before}, "
            f"{shown}, 0 FROM back k {{then}} customer c ON c.account_id = :account AND c.id = k.id "
            f"WHERE k.kind = 'revive' AND {before} IS NOT NULL",
            account=account,
        )
    if asked:
        work.expect(asked)
        work.analyze("rekey")
        _block(work, account, uniques)
    return asked


def _of_removed(uniques: Sequence[int], sqlite: bool) -> Iterator[tuple[str, str, str]]:
    """Kinds of keys and unique values, where customers that were removed keep them, and as they are written."""
    for name in KEYS:
        yield name, f"c.had_{name}", "c.had_customer_username" if name == "username_key" else f"c.had_{name}"
    for number in uniques:
        value = unique_values.value(number, "c", sqlite)
        yield unique_values.key(number), value, value


def rivals(work: Workspace) -> bool:
    """Whether two customers shall have the same key again, which the newer of their changes decides."""
    return bool(
        work.all(
            "SELECT 1 FROM rekey WHERE value IS NOT NULL GROUP BY kind, value HAVING count(*) > 1 LIMIT 1",
        )
    )


def _block(work: Workspace, account: int, uniques: Sequence[int]) -> None:
    # A key is to be had when nobody holds it, or its holder gives it up; who is blocked gives nothing up: again. What a
    # holder gives up for an older change comes too late.
    gives_up = (
        "EXISTS (SELECT 1 FROM back g WHERE g.id = {owner} AND g.kind = 'remove' AND g.change >= rekey.change) "
        "OR EXISTS (SELECT 1 FROM rekey g WHERE g.id = {owner} AND g.kind = rekey.kind AND g.blocked = 0 "
        "AND g.change >= rekey.change)"
    )
    statements = [
        f"UPDATE rekey SET blocked = 1 WHERE blocked = 0 AND kind = '{name}' AND value IS NOT NULL AND EXISTS ("
        f"SELECT 1 FROM customer o WHERE o.account_id = :account AND o.{name} = rekey.value AND o.id <> rekey.id "
        f"AND NOT ({gives_up.format(owner='o.id')}))"
        for name in KEYS
    ] + [
        f"UPDATE rekey SET blocked = 1 WHERE blocked = 0 AND kind = '{unique_values.key(number)}' AND value IS NOT NULL "
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


def blocked(work: Workspace, account: int) -> Iterator[tuple[int, str, str, str | None]]:
    """(customer, its code, kind of key, what stands now) of keys to give back that somebody else has by now."""
    unique = "json_extract(c.custom_fields, '$.' || r.kind)" if work.sqlite else "c.custom_fields ->> r.kind"
    uma = unique_values.UMA_ADDRESS
    attribute = f"WHEN '{unique_values.key(uma)}' THEN {unique_values.value(uma, 'c', work.sqlite)}"
    return work.rows(
        "SELECT r.id, coalesce(c.code, b.code, c.had_code), r.kind, CASE WHEN c.removed IS NOT NULL THEN NULL "
        "ELSE CASE r.kind WHEN 'code' THEN c.code "
        "WHEN 'card_number' THEN c.card_number WHEN 'username_key' THEN c.customer_username "
        f"{attribute} ELSE {unique} END END FROM rekey r {{then}} customer c ON c.account_id = :account AND c.id = r.id "
        "LEFT JOIN snapshot b ON b.account_id = :account AND b.change = r.change AND b.customer_id = r.id "
        "WHERE r.blocked = 1 ORDER BY r.id, r.kind",
        account=account,
    )


def unmark_blocked(work: Workspace, account: int) -> None:
    """Take the mark of `moved` from customers in whom only a value differs that somebody else has now."""
    blocked_values: dict[int, list[Any]] = {}
    names = ", ".join(f"{side}.{name}" for name in DOCUMENTS for side in ("b", "c"))
    for source in (FROM_IMAGES, FROM_RESTORE):
        for number, kind, *documents in work.rows(
            f"SELECT k.id, r.kind, {names} FROM rekey r {{then}} back k ON k.id = r.id AND k.kind = 'field' "
            f"{{then}} {source.joined} {{then}} customer c ON c.account_id = :account AND c.id = k.id "
            f"WHERE r.blocked = 1 AND r.kind NOT IN ({_NAMED_KEYS}) AND {source.where} AND NOT ({_REST_DIFFERS})",
            account=account,
        ):
            sides = blocked_values.setdefault(number, [_placed(documents[side::2]) for side in (0, 1)])
            for values in sides:
                values.pop((unique_values.document_of(kind), kind), None)
    unmoved = [number for number, (before, current) in blocked_values.items() if before == current]
    if unmoved:
        work.execute("DELETE FROM bad")
        work.fill("bad", ("row",), [[(number,) for number in unmoved]])
        work.execute('UPDATE back SET moved = 0 WHERE id IN (SELECT "row" FROM bad)')


_NAMED_KEYS = ", ".join(f"'{name}'" for name in KEYS)
_REST_DIFFERS = " OR ".join(
    f"b.{name} <> c.{name}" for name in PLAIN if not name.endswith("_digest") and name not in DOCUMENTS
)


def _placed(documents: Sequence[Any]) -> dict[tuple[str, str], Any]:
    """All values of a customer's DOCUMENTS, by document and key."""
    return {
        (name, key): value
        for name, held in zip(DOCUMENTS, documents, strict=True)
        for key, value in document(held).items()
    }
