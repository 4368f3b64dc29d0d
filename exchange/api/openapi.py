"""The OpenAPI 3.1 document, made from the table of routes and the msgspec types they name.

Nothing is written twice: a field's type, limits and description come from the struct that decodes
it, a call's path and role from the route that serves it. Types are described as they travel, so a
struct's docstring is read by the sellers' programmers.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from exchange.api.routes import Parameter, Route

PROBLEM_TITLES: Final[Mapping[int, str]] = {
    400: "The body is not what this call reads.",
    401: "There is no valid key.",
    403: "The key's role may not make this call.",
    404: "There is no such thing, or it is not yours.",
    408: "The body did not arrive in time.",
    409: "Too late, or not yours: the offer or the attempt is unknown, taken or over.",
    413: "The body is too large.",
    415: "The body is compressed or encoded; send it plainly.",
    422: "The body reads well and cannot be accepted; `errors` says why, field by field.",
    429: "More calls than agreed; `Retry-After` says when to come back.",
    500: "A fault of the exchange.",
    503: "The exchange is overloaded or cannot reach its database; try again.",
}
_PATH_NAME = re.compile(r"{(\w+)}")
_REF = "#/components/schemas/{name}"


def document(
    routes: Sequence[Route], *, version: str, problem: type, description: str = ""
) -> dict[str, Any]:
    """The document of these calls. `problem` is the type of problem details.

    Raises `ValueError` when two routes share an operation or a method and path, or a status has no
    sentence: a fault of the table, found by the first test that makes the document.
    """
    _refuse_doubles(routes)
    types = _types(routes, problem)
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    schema_of = dict(zip(map(_identity, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(
            route, schema_of, problem
        )
    return {
        "openapi": "3.1.0",
        "info": {"title": "The exchange", "version": version, "description": description},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A key of one role: `ex_live_<id>_<secret>`.",
                }
            },
        },
        "tags": [{"name": name} for name in dict.fromkeys(map(_group, routes))],
    }


def _operation(route: Route, schema_of: Mapping[str, Any], problem: type) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.operation,
        "summary": route.summary,
        "tags": [_group(route)],
        "security": [{"key": []}] if route.role else [],
        "responses": _responses(route, schema_of, problem),
    }
    if route.role:
        operation["x-role"] = route.role
    if route.description:
        operation["description"] = route.description
    if parameters := [_parameter(p, schema_of) for p in _parameters(route)]:
        operation["parameters"] = parameters
    if route.request is not None:
        body = _content("application/json", schema_of[_identity(route.request)])
        operation["requestBody"] = {"required": True, "content": body}
        _exemplify(body, route.request_example)
    return operation


def _responses(route: Route, schema_of: Mapping[str, Any], problem: type) -> dict[str, Any]:
    good: dict[str, Any] = {"description": route.summary}
    if route.response is not None:
        good["content"] = _content(route.media_type, schema_of[_identity(route.response)])
        _exemplify(good["content"], route.response_example)
        for text_type in route.text_types:
            good["content"] |= _content(text_type, {"type": "string"})
    responses = {str(route.status): good}
    for status in route.problems:
        if status not in PROBLEM_TITLES:
            raise ValueError(f"{route.operation}: no sentence for problem status {status}")
        responses[str(status)] = {
            "description": PROBLEM_TITLES[status],
            "content": _content("application/problem+json", schema_of[_identity(problem)]),
        }
    return responses


def _parameters(route: Route) -> Iterable[Parameter]:
    """Those described, and those that only stand in the path."""
    described = {p.name for p in route.parameters if p.place == "path"}
    for name in _PATH_NAME.findall(route.path):
        if name not in described:
            yield Parameter(name=name, place="path", description="", required=True)
    yield from route.parameters


def _parameter(parameter: Parameter, schema_of: Mapping[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.required or parameter.place == "path",
        "schema": schema_of[_identity(parameter.type)],
    }
    if parameter.description:
        shown["description"] = parameter.description
    if parameter.example is not None:
        shown["example"] = parameter.example
    return shown


def _content(media_type: str, schema: Any) -> dict[str, Any]:
    return {media_type: {"schema": schema}}


def _exemplify(content: dict[str, Any], example: Any) -> None:
    if example is not None:
        for media in content.values():
            media["example"] = msgspec.to_builtins(example)


def _types(routes: Sequence[Route], problem: type) -> list[Any]:
    found: dict[str, Any] = {_identity(problem): problem}
    for route in routes:
        for kind in (
            route.request,
            route.response,
            *(parameter.type for parameter in _parameters(route)),
        ):
            if kind is not None:
                found.setdefault(_identity(kind), kind)
    return list(found.values())


def _identity(kind: Any) -> str:
    """A type's name with its module: types such as unions have no other stable identity."""
    return f"{getattr(kind, '__module__', '')}.{kind!r}"


def _group(route: Route) -> str:
    return route.group or route.role or "operation"


def _refuse_doubles(routes: Sequence[Route]) -> None:
    for what in ("operation", "call"):
        names = [r.operation if what == "operation" else f"{r.method} {r.path}" for r in routes]
        if doubles := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"{what} stands twice in the table: {sorted(doubles)}")
