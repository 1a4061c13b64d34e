"""Tell Schemathesis, for ``tests.tools.fuzz``, more than ``schemathesis.toml`` can say."""

from __future__ import annotations

import os
import typing as t

import schemathesis
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.openapi.checks import ContentDeserializationError, RejectedPositiveData

from ..samples import OFFSET_TYPE, mp4

schemathesis.serializer.alias(OFFSET_TYPE, "application/octet-stream")

OWNERS = {"mongoProductId": os.environ["FUZZ_PRODUCT"], "mongoCourseId": os.environ["FUZZ_COURSE"]}

NOT_IN_SCHEMAS = (
    "Not a place in this list",
    "is not set up here",
    "takes no bytes from clients",
    "Only external media can be given a URL",
    "Without a file it can only be",
    "Missing: send a file or a URL",
    "External media has no content here",
    "Only http and https URLs are accepted",
    "Not a URL",
    "Contains characters that cannot be stored",
    "The content is not the one that the request is for",
    "The server cannot provide the requested range",
    "the filename ends in",
    '"file":[',  # the bytes are not of an accepted type, or none at all
)
"""Why a request is refused that fits the document: what no JSON schema can say."""

VALID = {
    "default_positive_test",
    "valid_object",
    "object_only_required",
    "object_required_and_optional",
}
"""Scenarios that are valid by their names. Where Schemathesis puts known ids into a form, it calls
the form invalid, because it cannot check the bytes in it; in sequences of requests it then says in
so many words that the invalid part is a positive test case."""


@schemathesis.hook
def before_load_schema(context: schemathesis.HookContext, raw_schema: dict[str, t.Any]) -> None:
    """Say where ids of resumable uploads come from: OpenAPI has nothing that cuts one out of a
    path. And say that there is a body where one of two types is needed, which the document leaves
    out."""
    links = {
        name: {
            "operationId": name,
            "parameters": {"upload_id": "$response.header.Location#regex:([^/]+)$"},
        }
        for name in ("head_upload", "append_to_upload", "remove_upload", "override_upload_method")
    }
    for item in raw_schema["paths"].values():
        body = item.get("post", {}).get("requestBody", {})
        body["required"] = body.get("required", len(body.get("content", ())) > 1)
    raw_schema["paths"]["/media/uploads"]["post"]["responses"]["201"]["links"] = links


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: t.Any) -> t.Any:
    """Name owners that exist, most times, and send videos where they are wanted: a valid body stays
    one."""
    path = context.operation.path if context.operation is not None else ""
    if not isinstance(body, dict):
        return _fitting(path, body)
    body = {**body}
    for name, owner in OWNERS.items():
        value = body.get(name)
        if isinstance(value, str) and 0 < len(value) < 256 and len(value) % 4:
            body[name] = owner
    if "file" in body:
        body["file"] = _fitting(path, body["file"])
    return body


def _fitting(path: str, content: t.Any) -> t.Any:
    """A video in the place of the picture that Schemathesis has."""
    picture = getattr(content, "data", content)
    if "/course-videos" in path and isinstance(picture, bytes) and picture.startswith(b"\x89PNG"):
        return type(content)(mp4())
    return content


@schemathesis.hook
def before_call(
    context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, t.Any]
) -> None:
    """Speak the version of tus that there is: without it nothing else about a request is looked
    at."""
    if "/uploads" in case.path:
        case.headers["Tus-Resumable"] = "1.0.0"


@schemathesis.hook
def filter_failure(
    context: t.Any, failure: t.Any, case: schemathesis.Case, response: schemathesis.Response
) -> bool:
    """Leave out what the document cannot know, and what Schemathesis gets wrong."""
    if isinstance(failure, RejectedPositiveData):
        return not any(reason in response.text for reason in NOT_IN_SCHEMAS)
    if isinstance(failure, AcceptedNegativeData):
        # In a form everything is text: the text of a wrong type may be right.
        is_form, wrong_type = (
            case.media_type == "multipart/form-data",
            ("violates `type`", "Incorrect type"),
        )
        is_text = is_form and any(words in failure.message for words in wrong_type)
        is_valid = _scenario(case) in VALID or (is_form and "positive test case" in failure.message)
        return not (is_text or is_valid)
    # Whoever stores bytes may call them JSON.
    return not (isinstance(failure, ContentDeserializationError) and case.path.endswith("/content"))


def _scenario(case: schemathesis.Case) -> str | None:
    return getattr(case.meta.phase.data, "scenario", None) if case.meta is not None else None
