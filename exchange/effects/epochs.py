"""Which keys there are, since when, and what is still sealed with which: the table `key_epoch`."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from exchange.core.model import Fact
from exchange.effects.sql import queries


class Rows(Protocol):
    """The part of `postgres.Database` used here."""

    async def fetch(self, sql: str, *args: Any) -> Sequence[Any]: ...
    async def fetchval(self, sql: str, *args: Any) -> Any: ...
    async def execute(self, sql: str, *args: Any) -> Any: ...


Noun = Literal["lead", "secret"]


class Wrapped(Fact, frozen=True, kw_only=True):
    """A data key as it is kept. `place`: a lead's id or a secret's name."""

    place: str
    key_epoch: int
    wrapped_dek: bytes


class Epochs:
    """`app` keeps the table and the secrets, `sealed` the records; each a database under the role
    of that name."""

    def __init__(self, *, app: Rows, sealed: Rows) -> None:
        self._app, self._of = app, {"lead": sealed, "secret": app}
        self._sql = queries("epochs")

    async def known(self, epochs: Mapping[str, Sequence[int]]) -> tuple[int, ...]:
        """Writes down the epochs of a key file, by kind; the master keys that are missing from it
        though something is sealed with them."""
        pairs = [(kind, epoch) for kind, those in epochs.items() for epoch in those]
        kinds, numbers = [kind for kind, _ in pairs], [epoch for _, epoch in pairs]
        await self._app.execute(self._sql["known"], kinds, numbers)
        rows = await self._app.fetch(self._sql["missing"], list(epochs["kek"]))
        return tuple(row["epoch"] for row in rows)

    async def rotating(self, newest: int) -> bool:
        """Whether a master key before the newest is still in use."""
        return bool(await self._app.fetchval(self._sql["rotating"], newest))

    async def wrapped_before(self, noun: Noun, newest: int, limit: int) -> tuple[Wrapped, ...]:
        """Some data keys of leads or secrets that are under an earlier master key."""
        rows = await self._of[noun].fetch(self._sql[f"{noun}s_wrapped_before"], newest, limit)
        return tuple(Wrapped(**dict(row)) for row in rows)

    async def rewrap(
        self, noun: Noun, old: Wrapped, epoch: int, wrapped_dek: bytes, *, job: str, lease: int
    ) -> bool:
        """Puts a data key under another master key; false when it has changed since, or the lease
        has moved on."""
        sql = self._sql[f"rewrap_{noun}"]
        tag = await self._of[noun].execute(
            sql, old.place, old.key_epoch, epoch, wrapped_dek, job, lease
        )
        return bool(tag == "UPDATE 1")

    async def retire(self, newest: int) -> tuple[int, ...]:
        """Retires the earlier master keys that nothing is or can be sealed with any more."""
        rows = await self._app.fetch(self._sql["retire"], newest)
        return tuple(row["epoch"] for row in rows)
