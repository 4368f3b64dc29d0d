"""The one error shape: RFC 9457 problem details, with `errors` naming each field, what is wrong
with it and how to mend it. No value of a request is ever repeated in an error.

This is the edge where exceptions become answers; a bug is logged by its type and place alone.
"""

from collections.abc import Sequence

import msgspec
from aiohttp import web

from exchange.core.fields import Problem
from exchange.core.messages import Refusal
from exchange.core.reasons import Reason

MEDIA_TYPE = "application/problem+json"


class FieldError(msgspec.Struct, frozen=True, kw_only=True):
    """One thing wrong: where, what, and how to mend it."""

    field: str
    message: str
    hint: str


class ProblemDetails(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was not carried out. `type` is a stable slug of the kind of problem."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError] = []


def problem_response(refusal: Refusal, *, retry_after_s: int | None = None) -> web.Response:
    """The refusal as an HTTP response."""
    response = web.Response(
        body=msgspec.json.encode(details(refusal)),
        status=refusal.status,
        content_type=MEDIA_TYPE,
    )
    if refusal.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if retry_after_s is not None:
        response.headers["Retry-After"] = str(retry_after_s)
    return response


def details(refusal: Refusal) -> ProblemDetails:
    """The refusal in the one error shape."""
    return ProblemDetails(
        type="/docs#problem-" + slug(refusal.title),
        title=refusal.title,
        status=refusal.status,
        detail=refusal.detail,
        errors=[
            FieldError(field=one.field, message=one.message, hint=one.hint)
            for one in refusal.problems
        ],
    )


def slug(title: str) -> str:
    """A title as it stands in a link."""
    return "-".join(title.lower().replace("_", " ").split())


UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are not the JSON it was told to expect."""


def bad_json(error: Exception) -> Refusal:
    """The refusal of a body that does not decode. msgspec's messages name the place and the type
    expected, and only of a word that is none of a list the value: that is left out."""
    if isinstance(error, msgspec.ValidationError):
        text = str(error)
        message, _, path = text.rpartition(" - at ") if " - at " in text else (text, "", "")
        field = path.strip("`").removeprefix("$.") or "body"
        if message.startswith("Invalid enum value"):
            message = "is none of the words this call knows here"
        return _refused(
            422, "Request not valid", "The body does not fit this call.", field, message
        )
    message = "is not JSON in UTF-8, or nested too deeply"
    if isinstance(error, msgspec.DecodeError):
        message = str(error).split(":")[0]
    return _refused(400, "Body is not JSON", "The body cannot be read as JSON.", "body", message)


def _refused(status: int, title: str, detail: str, field: str, message: str) -> Refusal:
    problem = Problem(field=field, message=message, hint="see /docs for what this call takes")
    return Refusal(status=status, title=title, detail=detail, problems=(problem,))


TOO_LARGE = Refusal(
    status=413, title="Body too large", detail="The body is larger than this exchange reads."
)
TOO_SLOW = Refusal(
    status=408, title="Body too slow", detail="The body did not arrive in time; send it at once."
)
ENCODED = Refusal(
    status=415,
    title="Body is encoded",
    detail="Send the body without Content-Encoding.",
)
OVERLOADED = Refusal(
    status=503,
    title="Overloaded",
    detail="As many requests are under way as this exchange takes on; try again shortly.",
)
DATABASE_DOWN = Refusal(
    status=503,
    title="Database unavailable",
    detail="The lead cannot be made durable now, so nothing was sent to any buyer; try again.",
)
DATABASE_AWAY = Refusal(
    status=503,
    title="Database unavailable",
    detail="The database cannot be asked now; try again.",
)
BUG = Refusal(
    status=500,
    title="Internal error",
    detail="The exchange failed on this request; the operator has been told.",
)


def rate_limited(wait_s: float) -> Refusal:
    """The refusal of a seller that calls faster than agreed."""
    return Refusal(
        status=429,
        title="Rate limit",
        detail=f"More requests than agreed; the next is welcome in {wait_s:.2f} s.",
    )


def missing(field: str, message: str, hint: str, *, status: int = 400) -> Refusal:
    """The refusal of a request that lacks something."""
    problem = Problem(field=field, message=message, hint=hint)
    return Refusal(status=status, title="Request not valid", detail=message, problems=(problem,))


_WORDS = {
    400: ("Not HTTP", "The request could not be read as HTTP."),
    404: ("Not found", "There is no such path here; /docs lists all there are."),
    405: ("Method not allowed", "This path takes other methods, named in the header Allow."),
}


def of_http(status: int) -> Refusal:
    """What the HTTP layer itself refuses, before any call is reached."""
    if status >= 500:
        return BUG
    title, detail = _WORDS.get(status, ("Not possible", "The request cannot be carried out."))
    return Refusal(status=status, title=title, detail=detail)


def not_found(what: str) -> Refusal:
    """404: there is no such thing, or it is not the caller's."""
    return Refusal(
        status=404, title="Not found", detail=f"There is no such {what}, or it is not yours."
    )


KINDS: tuple[tuple[str, str], ...] = (
    ("Not HTTP", _WORDS[400][1]),
    ("Body is not JSON", "The body cannot be read as JSON in UTF-8."),
    ("Request not valid", "Fields are wrong or missing: `errors` names each and how to mend it."),
    ("No valid key", "There is no key, or it is not in force."),
    ("Wrong role", "The key is of another role than the call needs."),
    ("Seller paused", "The seller is not trading now."),
    ("Source paused", "Nothing of this source is traded now."),
    ("Not found", "There is no such path or thing, or it is not yours."),
    ("Method not allowed", _WORDS[405][1]),
    ("Body too slow", TOO_SLOW.detail),
    ("Body too large", TOO_LARGE.detail),
    ("Body is encoded", ENCODED.detail),
    ("Key used before", "The Idempotency-Key was used with another request; use a new key."),
    ("Ended otherwise", "The attempt or the return ended before, in another way."),
    ("No appeal", "The return cannot be appealed: `detail` says which rule stands against it."),
    ("Asked too often", "A return of one sale can be asked for a few times only."),
    ("Still running", "The post of this attempt is still under way; say it again later."),
    ("Rate limit", "More requests than agreed; `Retry-After` says when the next is welcome."),
    ("Overloaded", OVERLOADED.detail),
    ("Database unavailable", "Nothing was sent to any buyer; try again under the same key."),
    ("Internal error", BUG.detail),
    *((reason.label, reason.sentence) for reason in Reason),
)
"""Every kind of problem there is, `(title, words)`: what `type` links to."""


def names(problems: Sequence[Problem]) -> str:
    """The fields a refusal names, for a log line."""
    return ",".join(problem.field for problem in problems)
