"""The JSON schema of gateway.toml: for editors, and for the tables of docs/configuration.md."""

from __future__ import annotations

import ast
import inspect
import textwrap
from itertools import pairwise
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from gateway.config.built_in_services import built_in_services
from gateway.config.models import Settings

JsonSchema = dict[str, Any]


def json_schema() -> JsonSchema:
    """The schema (draft 2020-12) of the whole file. Its `$defs` are the tables, by the names of their models."""
    schema = Settings.model_json_schema(schema_generator=TomlSchema)
    # For a built-in service, the file may set single values. Any other service needs all required settings.
    service = {"$ref": "#/$defs/ServiceSettings"}
    required = {"required": schema["$defs"]["ServiceSettings"].pop("required")}
    services = schema["properties"]["services"]
    (name_pattern,) = services.pop("patternProperties")
    services |= {
        "propertyNames": {"pattern": name_pattern},
        "properties": dict.fromkeys(built_in_services()["services"], service),
        # `allOf`, as some editors ignore keywords beside a $ref: earlier drafts did so, too.
        "additionalProperties": {"allOf": [service, required]},
    }
    return {"$schema": TomlSchema.schema_dialect, **schema}


class TomlSchema(GenerateJsonSchema):
    """pydantic's schema generator. It omits null, which TOML does not have, and titles that only repeat the names of
    settings."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - the signature is pydantic's
        return False

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        found = super().default_schema(schema)
        # A table's default is omitted: its settings have defaults of their own.
        if found.get("default") in (None, {}) or "$ref" in found:
            found.pop("default", None)
        return found

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        found = super().dict_schema(schema)
        return found | {"additionalProperties": False} if "patternProperties" in found else found

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        found = super().model_schema(schema)
        del found["title"]
        found["description"] = one_line(found["description"])
        for name, text in field_descriptions(schema["cls"]).items():
            found["properties"][name]["description"] = text
        for setting in found["properties"].values():
            # The bounds of a size are bounds on its number of bytes, so they belong to the integer.
            for constraint, keyword in (("ge", "minimum"), ("le", "maximum")):
                if constraint in setting:
                    setting["anyOf"][0][keyword] = setting.pop(constraint)
        return found


def field_descriptions(model: type[BaseModel]) -> dict[str, str]:
    """The docstrings under the fields of a model and its bases, by the names of the fields.

    pydantic's `use_attribute_docstrings` would read them when a model is defined, which takes 20 ms at each start."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__[: model.__mro__.index(BaseModel)]):
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(definition, ast.ClassDef)  # noqa: S101 - the source of a class
        for field, text in pairwise(definition.body):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(docstring))):
                    found[name] = one_line(docstring)
    return found


def one_line(text: str) -> str:
    return " ".join(text.split())
