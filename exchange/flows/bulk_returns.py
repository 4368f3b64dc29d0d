"""Many returns at once: each is asked for, or decided, by itself, in the order they came.

Each is a transaction of its own, and each is idempotent, so a list that was cut short is sent again
as it is. When the database goes away, what was done is told, and what was not.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from exchange.core.messages import Refusal
from exchange.effects.postgres import DatabaseDown
from exchange.flows.returns import Answered

T = TypeVar("T")
Told = Answered | Refusal | None
"""What becomes of one; `None`: there is no such sale or return."""
NOT_DONE = Refusal(
    status=503,
    title="Database unavailable",
    detail="The database went away before this line; send the list again.",
)


async def one_by_one(
    items: Iterable[T | Refusal], step: Callable[[T], Awaitable[Told]]
) -> list[Told]:
    """What becomes of each; one that is refused already stays so. Raises `DatabaseDown` only when
    nothing was done."""
    told: list[Told] = []
    is_down = has_done = False
    for item in items:
        if isinstance(item, Refusal):
            told.append(item)
            continue
        if not is_down:
            try:
                told.append(await step(item))
                has_done = True
                continue
            except DatabaseDown:
                if not has_done:
                    raise
                is_down = True
        told.append(NOT_DONE)
    return told
