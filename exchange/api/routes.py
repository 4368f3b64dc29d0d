"""A call of the API as a value: what the server routes, the documentation shows and the tests walk.

The tables of routes stand beside the code that answers them; the OpenAPI document and `/docs` are
made from the same tables, so they cannot say otherwise.
"""

from typing import Any, Literal

import msgspec

from exchange.core.model import Role

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """A value outside the body. Those in the path are found from the path; naming them here only
    describes them."""

    name: str
    place: Literal["path", "query", "header"]
    description: str
    type: Any = str
    required: bool = False
    example: Any = None


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One call. `operation` is its stable name (clients generated from the document call it so).

    `role` is who may call it, `None` for anyone. `request` and `response` are msgspec types,
    `None` for no body; `text_types` in which other forms the answer may be had as text; `problems`
    the statuses answered as problem details. `description` is
    Markdown-free text; a blank line makes a paragraph.
    """

    method: Method
    path: str
    operation: str
    summary: str
    role: Role | None
    description: str = ""
    group: str = ""
    parameters: tuple[Parameter, ...] = ()
    request: Any = None
    response: Any = None
    status: int = 200
    media_type: str = "application/json"
    text_types: tuple[str, ...] = ()
    problems: tuple[int, ...] = ()
    request_example: Any = None
    response_example: Any = None
