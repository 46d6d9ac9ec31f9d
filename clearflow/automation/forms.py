"""Models of pydantic as what people fill in: Prefect's Run form, and files and arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from clearflow.errors import Usage

M = TypeVar("M", bound=BaseModel)


def form(name: str, model: type[BaseModel]) -> dict[str, Any]:
    """What Prefect's Run form asks for when a flow has one parameter, `name`, of this model."""
    schema = model.model_json_schema(ref_template="#/definitions/{model}")
    inner = schema.pop("$defs", {})
    asked = {"title": name, "position": 0, "$ref": f"#/definitions/{model.__name__}"}
    return {
        "title": "Parameters",
        "type": "object",
        "properties": {name: asked},
        "required": [name],
        "definitions": {**inner, model.__name__: schema},
    }


def parsed(model: type[M], data: Mapping[str, Any], what: str) -> M:
    """A model from plain values; one without a name is told as `what`.

    Raises Usage, in one line, for values that do not fit.
    """
    try:
        return model.model_validate(dict(data))
    except ValidationError as error:
        said = error.errors()[0]
        where = ".".join(str(each) for each in said["loc"])
        name = data.get("name") or what
        text = said["msg"].removeprefix("Value error, ")
        raise Usage(f"{name}: {where}: {text}" if where else f"{name}: {text}") from None
