"""What sellers call: ping, post, direct lead, and the state of a lead."""

import re
from datetime import UTC, datetime
from functools import lru_cache

import msgspec
from aiohttp import web

from exchange.api import errors
from exchange.api.door import Asked, Door, Limit, Refused, json_response
from exchange.api.routes import Parameter, Route
from exchange.api.serving import Written
from exchange.core.messages import (
    LeadRequest,
    NamedBuyer,
    OfferLine,
    PingReply,
    PingRequest,
    PostReply,
    PostRequest,
    Refusal,
    Replayed,
    Why,
)
from exchange.core.model import Seller
from exchange.core.money import text_of
from exchange.core.reasons import Reason
from exchange.core.records import PingRecord
from exchange.effects.vault import Vault
from exchange.flows.ping import Pings, needs_names
from exchange.flows.post import Outcome, Posts
from exchange.flows.standing import Standing

KEY_HEADER = "Idempotency-Key"
KEY = re.compile(r"[\x20-\x7e]{1,255}")
"""As long as the IETF draft and Stripe allow; printable, so that every store keeps it as it is."""
_KEY = Parameter(
    name=KEY_HEADER,
    place="header",
    description="Your own id of this request: a retry with the same key is answered the same and "
    "sends nothing. For a post it defaults to the ping_id; a direct lead needs one.",
)
PROBLEMS = (400, 401, 403, 408, 413, 415, 422, 429, 500, 503)
_PING_EXAMPLE = {
    "vertical": "auto_insurance",
    "source": "search-brand",
    "fields": {"zip": "90210", "age": 34, "insured": True},
    "floor": "5.00",
    "tmax_ms": 1500,
}
ROUTES = (
    Route(
        method="POST",
        path="/v1/ping",
        operation="ping",
        group="Sellers",
        role="seller",
        summary="Ask the market what it pays for a lead",
        description="A partial record, nothing personal. The answer is an offer whose payout is "
        "promised until it expires, or no offer and why.",
        request=PingRequest,
        response=PingReply,
        problems=PROBLEMS,
        request_example=_PING_EXAMPLE,
    ),
    Route(
        method="POST",
        path="/v1/post",
        operation="post",
        group="Sellers",
        role="seller",
        summary="Take up an offer with the full record",
        description="The record goes to one buyer at a time, best first, and only to buyers that "
        "can pay the promised payout.",
        parameters=(_KEY,),
        request=PostRequest,
        response=PostReply,
        problems=(*PROBLEMS, 409),
    ),
    Route(
        method="POST",
        path="/v1/leads",
        operation="direct",
        group="Sellers",
        role="seller",
        summary="Sell a lead in one call",
        description="Ping and post together: the record is made durable, auctioned and sold.",
        parameters=(_KEY,),
        request=LeadRequest,
        response=PostReply,
        problems=PROBLEMS,
    ),
    Route(
        method="GET",
        path="/v1/leads/{lead_id}",
        operation="lead",
        group="Sellers",
        role="seller",
        summary="What became of one of your leads",
        response=PostReply,
        problems=(401, 403, 404, 429, 500, 503),
    ),
)


class SellerApi:
    """Translates sellers' calls to flows and back."""

    def __init__(
        self,
        *,
        pings: Pings,
        posts: Posts,
        standing: Standing,
        vault: Vault,
        pings_limit: Limit,
        posts_limit: Limit,
    ) -> None:
        self._pings, self._posts, self._standing, self._vault = pings, posts, standing, vault
        self._pings_limit, self._posts_limit = pings_limit, posts_limit

    def add_to(self, router: web.UrlDispatcher, door: Door) -> None:
        """Serve `ROUTES`."""
        decode = msgspec.json.Decoder
        router.add_post(
            "/v1/ping",
            door.guarded(
                "seller", self._ping, decoder=decode(PingRequest), limit=self._pings_limit
            ),
        )
        router.add_post(
            "/v1/post",
            door.guarded(
                "seller", self._post, decoder=decode(PostRequest), limit=self._posts_limit
            ),
        )
        router.add_post(
            "/v1/leads",
            door.guarded(
                "seller", self._direct, decoder=decode(LeadRequest), limit=self._posts_limit
            ),
        )
        router.add_get("/v1/leads/{lead_id}", door.guarded("seller", self._lead))

    async def _ping(self, asked: Asked) -> web.StreamResponse:
        record = await self._pings.ping(asked.message, _seller(asked), began=asked.began)
        if isinstance(record, Refusal):
            raise Refused(record)
        return Written(msgspec.json.encode(self._ping_reply(record)))

    async def _post(self, asked: Asked) -> web.StreamResponse:
        request: PostRequest = asked.message
        key = idempotency_key(asked) or request.ping_id
        if request.offer_id not in (None, request.ping_id):
            raise Refused(
                errors.missing(
                    "offer_id", "there is no such offer", "use the offer_id of the ping's answer"
                )
            )
        return self._posted(
            await self._posts.post(
                request,
                _seller(asked),
                key=key,
                fingerprint=self._fingerprint(asked),
                began=asked.began,
            )
        )

    async def _direct(self, asked: Asked) -> web.StreamResponse:
        key = idempotency_key(asked)
        if key is None:
            raise Refused(
                errors.missing(
                    KEY_HEADER,
                    "a direct lead needs an idempotency key",
                    "send a header `Idempotency-Key` with your own id of the lead",
                )
            )
        return self._posted(
            await self._posts.direct(
                asked.message,
                _seller(asked),
                key=key,
                fingerprint=self._fingerprint(asked),
                began=asked.began,
            )
        )

    async def _lead(self, asked: Asked) -> web.Response:
        reply = await self._posts.lead(asked.request.match_info["lead_id"], _seller(asked))
        if reply is None:
            raise Refused(errors.not_found("lead"))
        return json_response(msgspec.convert(reply, PostReply))

    def _posted(self, outcome: Outcome) -> web.StreamResponse:
        if isinstance(outcome, Refusal):
            raise Refused(outcome)
        if isinstance(outcome, Replayed):
            # Through its type: stored JSON forgets the order in which it was first said.
            response = json_response(msgspec.convert(outcome.reply, PostReply))
            response.headers["Idempotent-Replayed"] = "true"
            return response
        return Written(msgspec.json.encode(outcome))

    def _fingerprint(self, asked: Asked) -> str:
        """A keyed hash of what was asked, whatever the spelling of its JSON."""
        plain = msgspec.json.encode(asked.message, order="sorted")
        return self._vault.fingerprint(asked.request.path.encode() + b"\0" + plain)

    def _ping_reply(self, record: PingRecord) -> PingReply:
        ping, payout = record.ping, record.payout_micros
        book = self._standing.book
        currency = book.verticals[ping.vertical_id].terms.currency
        dropped = list(ping.gated)
        if payout is None or record.expires_at_ms is None:
            return PingReply(
                ping_id=ping.ping_id,
                status="no_offer",
                currency=currency,
                reason=None if record.reason is None else why(Reason(record.reason)),
                dropped=dropped,
            )
        named = needs_names(ping, book.verticals[ping.vertical_id])
        payout_text = text_of(payout)
        return PingReply(
            ping_id=ping.ping_id,
            status="offer",
            currency=currency,
            payout=payout_text,
            expires_at=_iso(record.expires_at_ms),
            offers=[
                OfferLine(
                    offer_id=ping.ping_id,
                    payout=payout_text,
                    exclusive=True,
                    buyers=self._names(record) if named else [],
                )
            ],
            dropped=dropped,
        )

    def _names(self, record: PingRecord) -> list[NamedBuyer]:
        """The buyers the consumer may be shown, best first, each once."""
        buyers = self._standing.book.buyers
        ids = dict.fromkeys(candidate.buyer_id for candidate in record.ranking)
        return [NamedBuyer(name=buyers[one].terms.name or buyers[one].key) for one in ids]


def why(reason: Reason) -> Why:
    """A reason as the API tells it."""
    return Why(code=int(reason), name=reason.label, message=reason.sentence)


def _seller(asked: Asked) -> Seller:
    assert asked.seller is not None, "the door lets only sellers through here"
    return asked.seller


def idempotency_key(asked: Asked) -> str | None:
    """The caller's own id of its request, if it sent one. Raises `Refused` for an unusable one."""
    key: str | None = asked.request.headers.get(KEY_HEADER)
    if key is not None and not KEY.fullmatch(key):
        raise Refused(
            errors.missing(KEY_HEADER, "not a usable key", "use 1 to 255 plain characters (ASCII)")
        )
    return key


def _iso(at_ms: int) -> str:
    second, ms = divmod(at_ms, 1000)
    return f"{_second(second)}.{ms:03d}Z"


@lru_cache(maxsize=512)
def _second(at_s: int) -> str:
    """Many offers expire in the same second."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")
