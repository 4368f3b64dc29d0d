"""What the door refuses before it has read a body."""

from typing import Any

import msgspec
from aiohttp.streams import StreamReader
from aiohttp.test_utils import make_mocked_request

from exchange.api.door import Door
from exchange.core.model import ApiKey
from exchange.effects.clock import Clock

LIMIT = 1_024


class Unread(StreamReader):
    """A body that nobody may read."""

    def __init__(self) -> None:
        pass

    def is_eof(self) -> bool:
        return False

    async def readany(self) -> bytes:
        raise AssertionError("it was read")


class Anyone:
    """An admission that knows every key."""

    def caller(self, _header: str | None, role: Any) -> ApiKey:
        return ApiKey(id="k", role=role, party_id=None, secret_sha256=b"")


async def test_a_body_declared_too_large_is_refused_unread() -> None:
    hits: list[str] = []
    admission: Any = Anyone()
    door = Door(
        clock=Clock(),
        admission=admission,
        recorded=lambda _: None,
        failed=lambda kind, place: None,
        limit_hit=hits.append,
        body_read_ms=2_000,
    )

    async def called(_: Any) -> Any:
        raise AssertionError("it was let in")

    answer = door.guarded("operator", called, decoder=msgspec.json.Decoder(dict))
    request = make_mocked_request(
        "POST",
        "/v1/any",
        headers={"Content-Length": str(LIMIT + 1)},
        payload=Unread(),
        client_max_size=LIMIT,
    )
    response = await answer(request)
    assert response.status == 413
    assert hits == ["body_bytes_max"]
