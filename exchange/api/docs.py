"""`/docs`: the OpenAPI document as one page for people. No script, nothing loaded from elsewhere:
it works behind a closed firewall, and there is no third party to trust with who reads it.
"""

import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from importlib import resources
from shlex import quote
from string import Template
from typing import Any

from exchange.core.messages import PRINTED

Json = Mapping[str, Any]


def page(document: Json, problems: Iterable[tuple[str, str, str]] = ()) -> str:
    """The page of an OpenAPI document as made by `openapi.document`, and of the problems there are:
    `(slug, title, words)`."""
    template = Template((resources.files(__package__) / "docs.html").read_text(encoding="utf-8"))
    info = document["info"]
    return template.substitute(
        title=escape(info["title"]),
        version=escape(info["version"]),
        description=_paragraphs(info.get("description", "")),
        navigation="".join(_navigation(document)),
        calls="".join(_groups(document)),
        types="".join(_types(document)),
        problems="".join(_problems(problems)),
    )


def _problems(problems: Iterable[tuple[str, str, str]]) -> Iterable[str]:
    for slug, title, words in problems:
        yield f'<h3 id="problem-{escape(slug)}">{escape(title)}</h3>{_paragraphs(words)}'


# --- calls ----------------------------------------------------------------------------------------


def _operations(document: Json) -> Iterable[tuple[str, str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def _of_group(document: Json, group: str) -> list[tuple[str, str, Json]]:
    return [entry for entry in _operations(document) if group in entry[2]["tags"]]


def _navigation(document: Json) -> Iterable[str]:
    for tag in document["tags"]:
        yield f"<h2>{escape(tag['name'])}</h2>"
        for method, path, operation in _of_group(document, tag["name"]):
            target = escape(operation["operationId"])
            yield f'<a href="#{target}">{method.upper()} {escape(path)}</a>'


def _groups(document: Json) -> Iterable[str]:
    for tag in document["tags"]:
        yield f"<h2>{escape(tag['name'].capitalize())}</h2>"
        for method, path, operation in _of_group(document, tag["name"]):
            yield from _call(method, path, operation, document["components"]["schemas"])


def _call(method: str, path: str, operation: Json, types: Json) -> Iterable[str]:
    yield (
        f'<section><h3 id="{escape(operation["operationId"])}">'
        f'<span class="method {method}">{method.upper()}</span><code>{escape(path)}</code></h3>'
        f"<p><strong>{escape(operation['summary'])}</strong></p>"
    )
    if role := operation.get("x-role"):
        yield f'<p class="soft">Needs a key with the role <code>{escape(role)}</code>.</p>'
    yield _paragraphs(operation.get("description", ""))
    yield from _parameters(operation.get("parameters", ()))
    body = operation.get("requestBody", {}).get("content", {})
    for media_type, media in body.items():
        yield _media("Send", media_type, media, types)
    yield from _examples_of(method, path, operation, body)
    yield from _answers(operation["responses"], types)
    yield "</section>"


def _parameters(parameters: Iterable[Json]) -> Iterable[str]:
    rows = [
        (_named(p["name"], p["required"]), f"{p['in']}: {_type(p['schema'])}", _words(p))
        for p in parameters
    ]
    if rows:
        yield "<h4>Beside the body</h4>" + _table(("name", "where", "meaning"), rows)


def _examples_of(method: str, path: str, operation: Json, body: Json) -> Iterable[str]:
    example = next((media["example"] for media in body.values() if "example" in media), None)
    if example is None and method != "get":
        return
    lines = [f"curl -sS -X {method.upper()} $EXCHANGE{path}"]
    if operation.get("x-role"):
        lines.append('-H "Authorization: Bearer $KEY"')
    lines += [
        f'-H "{parameter["name"]}: ..."'
        for parameter in operation.get("parameters", ())
        if parameter["in"] == "header" and parameter["required"]
    ]
    if example is not None:
        lines += [
            "-H 'Content-Type: application/json'",
            f"-d {quote(json.dumps(example, indent=2))}",
        ]
    command = " \\\n  ".join(lines)
    yield f"<h4>For example</h4><pre>{escape(command)}</pre>"


def _answers(responses: Json, types: Json) -> Iterable[str]:
    for status, answer in responses.items():
        for media_type, media in answer.get("content", {}).items():
            if media_type != "application/problem+json":
                yield _media(f"Answer {status}", media_type, media, types)
                if "example" in media:
                    text = json.dumps(media["example"], indent=2, ensure_ascii=False)
                    yield f"<pre>{escape(text)}</pre>"
    problems = [
        (f"<code>{status}</code>", _marked(answer["description"]))
        for status, answer in responses.items()
        if "application/problem+json" in answer.get("content", {})
    ]
    if problems:
        yield "<h4>Problems</h4>" + _table(("status", "meaning"), problems)


def _media(title: str, media_type: str, media: Json, types: Json) -> str:
    """The type of a body, and its fields at once when it has a name."""
    schema = media["schema"]
    name = schema.get("$ref", "").rpartition("/")[2]
    return (
        f'<h4>{escape(title)} <span class="soft">{escape(media_type)}</span></h4>'
        f"<p>{_type(schema)}</p>{_fields(types.get(name, {}))}"
    )


# --- types ----------------------------------------------------------------------------------------


def _types(document: Json) -> Iterable[str]:
    for name, schema in document["components"]["schemas"].items():
        yield f'<section><h3 id="type-{escape(name)}"><code>{escape(name)}</code></h3>'
        yield _paragraphs(schema.get("description", ""))
        yield _fields(schema) or f"<p>{_type(schema)}</p>"
        yield "</section>"


def _fields(schema: Json) -> str:
    required = schema.get("required", ())
    rows = [
        (_named(field, field in required), _type(kind), _words(kind))
        for field, kind in schema.get("properties", {}).items()
    ]
    return _table(("field", "type", "meaning"), rows) if rows else ""


def _type(schema: Json) -> str:
    """A type in words, with a link to each type it names."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#type-{name}"><code>{name}</code></a>'
    if "anyOf" in schema:
        return " or ".join(map(_type, schema["anyOf"]))
    if "enum" in schema:
        return " | ".join(f"<code>{escape(json.dumps(value))}</code>" for value in schema["enum"])
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {_type(schema.get('items') or {})}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"map to {_type(schema['additionalProperties'])}"
    return escape(" or ".join(kind) if isinstance(kind, list) else kind) + _bounds(schema)


def _bounds(schema: Json) -> str:
    words = (
        ("format", "{}"),
        ("minimum", "at least {}"),
        ("maximum", "at most {}"),
        ("minLength", "{} characters or more"),
        ("maxLength", "at most {} characters"),
        ("pattern", "like {}"),
    )
    said = [
        form.format(schema[key])
        for key, form in words
        if key in schema and schema[key] != PRINTED  # no news: any text on one line
    ]
    return f' <span class="soft">({escape(", ".join(said))})</span>' if said else ""


def _words(schema: Json) -> str:
    words = _marked(schema.get("description", ""))
    if "default" in schema and schema["default"] is not None:
        default = escape(json.dumps(schema["default"]))
        words += f' <span class="soft">Default <code>{default}</code>.</span>'
    return words


# --- marks ----------------------------------------------------------------------------------------


def _named(name: str, required: bool) -> str:
    needed = ' <span class="needed">required</span>' if required else ""
    return f"<code>{escape(name)}</code>{needed}"


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{_marked(part)}</p>" for part in text.split("\n\n") if part.strip())


def _marked(text: str) -> str:
    """Text with back-ticks shown as code: the one mark our docstrings use."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
