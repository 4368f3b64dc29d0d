"""States and the moves allowed between them, as tables. An absent move is illegal; no other words
for states stand anywhere. The same moves are fenced in SQL by compare-and-set on the old state.
"""

from typing import Final, Literal

PingState = Literal["no_offer", "offered", "taken", "expired", "declined"]
LeadState = Literal["received", "selling", "sold", "unsold", "in_doubt", "erased"]
AttemptState = Literal[
    "reserved", "posting", "voided", "rejected", "unknown", "sold", "written_off"
]
ReturnState = Literal["requested", "granted", "denied", "referred", "lapsed", "appealed"]

PING: Final[dict[str, frozenset[str]]] = {
    "no_offer": frozenset(),
    "offered": frozenset({"taken", "expired", "declined"}),
    "taken": frozenset(),
    "expired": frozenset(),
    "declined": frozenset(),
}
LEAD: Final[dict[str, frozenset[str]]] = {
    "received": frozenset({"selling", "unsold", "erased"}),
    "selling": frozenset({"selling", "sold", "unsold", "in_doubt"}),
    "in_doubt": frozenset({"sold", "unsold", "selling"}),
    "sold": frozenset({"erased", "selling"}),  # again, once every sale of it was returned in full
    "unsold": frozenset({"erased"}),
    "erased": frozenset(),
}
ATTEMPT: Final[dict[str, frozenset[str]]] = {
    "reserved": frozenset({"posting"}),
    "posting": frozenset({"voided", "rejected", "unknown", "sold"}),
    "unknown": frozenset({"sold", "rejected", "written_off"}),
    "voided": frozenset(),
    "rejected": frozenset(),
    "sold": frozenset(),
    "written_off": frozenset(),
}
RETURN: Final[dict[str, frozenset[str]]] = {
    "requested": frozenset({"granted", "denied", "referred", "lapsed"}),
    "referred": frozenset({"granted", "denied", "lapsed"}),
    "denied": frozenset({"appealed"}),
    "appealed": frozenset({"granted", "denied"}),
    "granted": frozenset(),
    "lapsed": frozenset(),
}

SellerStatus = Literal["sold", "unsold", "duplicate", "rejected", "queued", "pending", "test"]
"""What a seller sees of its lead; `pending` is in doubt or still running."""


class IllegalMove(Exception):
    """A state was asked to change in a way its table does not allow: a bug, never an outcome."""


def moved(table: dict[str, frozenset[str]], old: str, new: str) -> str:
    """`new`, if the table allows the move from `old`; else raises `IllegalMove`."""
    if new not in table[old]:
        raise IllegalMove(f"{old} -> {new} is not a move; from {old}: {sorted(table[old])}")
    return new
