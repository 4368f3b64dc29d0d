"""Answers as bytes, and the odd manners of giving them.

A plan says what the buyer answers, after how long, and in which manner; the server only plays it.
"""

from typing import Final, Literal

import msgspec

Manner = Literal["whole", "drip", "hang", "reset", "cut", "raw"]
"""`cut`: the head and half of the body, then the end of the connection. `raw`: `body` as it is,
without a head, then the end of the connection."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One answer to be played. `answered` is its one word in the truth file; `delay_ms` counts from
    the last byte of the request; `pause_ms` is between the bytes of a drip."""

    answered: str
    delay_ms: float = 0.0
    http: int = 200
    body: bytes = b""
    manner: Manner = "whole"
    pause_ms: float = 0.0
    headers: tuple[tuple[str, str], ...] = ()


_PHRASES: Final = {
    200: "OK",
    204: "No Content",
    302: "Found",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    422: "Unprocessable Content",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
}
ERRORS: Final = (500, 502, 503)


def head(plan: Plan, *, length: int | None = None) -> bytes:
    """The status line and headers of a plan; every answer says which delay was chosen."""
    lines = [
        f"HTTP/1.1 {plan.http} {_PHRASES[plan.http]}",
        f"X-Sim-Delay-Ms: {plan.delay_ms:.3f}",
    ]
    if plan.http != 204:
        lines.append("Content-Type: application/json")
        lines.append(f"Content-Length: {len(plan.body) if length is None else length}")
    lines += [f"{name}: {value}" for name, value in plan.headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def rendered(plan: Plan) -> bytes:
    """The bytes that leave for a plan of the manners `whole`, `drip`, `cut` and `raw`."""
    if plan.manner == "raw":
        return plan.body
    if plan.manner == "cut":
        return head(plan, length=len(plan.body) * 2) + plan.body
    return head(plan) + plan.body


def json_plan(answered: str, value: object, *, delay_ms: float = 0.0, http: int = 200) -> Plan:
    """A plain JSON answer."""
    return Plan(answered=answered, delay_ms=delay_ms, http=http, body=msgspec.json.encode(value))


_UNREADABLE: Final = (
    Plan(answered="malformed:empty"),
    Plan(answered="malformed:html", body=b"<html><body>It works!</body></html>"),
    Plan(answered="malformed:wrong_type", body=b"[1, 2, 3]"),
    Plan(answered="malformed:deep", body=b"[" * 20_000),
    Plan(answered="malformed:not_utf8", body=b'{"bid": "\xff\xfe", "status": "\xff"}'),
    Plan(answered="malformed:garbage", body=b"\x16\x03\x01 220 ESMTP\r\n\r\n\x00", manner="raw"),
    Plan(answered="malformed:cut", body=b'{"bid": "25.00", "status": "acc', manner="cut"),
    Plan(answered="malformed:redirect", http=302),
)
MALFORMED_PINGS: Final = (
    *_UNREADABLE,
    *(
        Plan(answered=f"malformed:{variant}", body=body)
        for variant, body in (
            ("truncated", b'{"bid": "25.'),
            ("not_a_price", b'{"bid": "a lot", "ref": "r"}'),
            ("negative", b'{"bid": "-25.00", "ref": "r"}'),
            ("huge", b'{"bid": 1e308, "ref": "r"}'),
            ("nan", b'{"bid": NaN, "ref": "r"}'),
            ("null", b'{"bid": null}'),
            ("no_bid_text", b'{"no_bid": "sorry"}'),
        )
    ),
)
MALFORMED_POSTS: Final = (
    *_UNREADABLE,
    *(
        Plan(answered=f"malformed:{variant}", body=body)
        for variant, body in (
            ("truncated", b'{"status": "accep'),
            ("unknown_status", b'{"status": "perhaps"}'),
            ("status_number", b'{"status": 1}'),
            ("no_status", b'{"ok": true}'),
        )
    ),
)


def oversized(body: bytes, *, size: int) -> bytes:
    """A JSON object made too large by a member that nobody asked for."""
    return body[:-1] + b', "padding": "' + b"x" * size + b'"}'
