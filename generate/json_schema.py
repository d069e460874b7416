"""The JSON Schema of the config (draft 2020-12), for editors.

It refuses the form of a value, and no absent key: every key can come from the environment or from [defaults].
"""

import inspect
import json
import tomllib
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from generate.project import SCHEMA_URL
from generate.settings import Setting, every_model, settings
from syncd.config import values
from syncd.config.checks import MIRROR_NAME
from syncd.config.instance_settings import CACHE_TTLS, BoostSection, check_cache_ttl
from syncd.config.schema import Config
from syncd.config.target_sections import FIELD_NAME
from syncd.core import requests
from syncd.core.model import FIELD_SOURCES, FRONT_FIELD
from syncd.core.names import Shard

_NUMBER = r"[0-9]{1,15}(\.[0-9]{1,6})?"
_UNITS = "|".join(unit for unit in values.SECONDS if unit)
_FORMS: dict[Any, JsonSchemaValue] = {
    values.seconds: {"type": "string", "pattern": rf"^\s*{_NUMBER}\s*({_UNITS})?$"},
    values.size: {"type": "string", "pattern": rf"^\s*{_NUMBER}\s*([KkMmGgTt]?[Ii]?[Bb])?$"},
}
"""The texts that a setting takes in place of a number."""
_PATTERNS: dict[Any, str] = {
    requests.parse_quota: r"^([0-9]{1,9}\s*/\s*[0-9]{1,6}(\.[0-9]{1,3})?\s*[smh]?)?$",
    Shard.parse: "^([0-9]+/[0-9]+)?$",
    requests.check_base_url: "^[Hh][Tt][Tt][Pp][Ss]?://",
    values.listen_address: "^(.+:[0-9]{1,5})?$",
    values.metrics_address: "^(.+:[0-9]{1,5})?$",
    values.check_webhook: "^([Hh][Tt][Tt][Pp][Ss]?://.+)?$",
    values.check_apprise_url: "^[a-zA-Z0-9]+://",
}
"""The pattern of a text that a validator checks, or that a function of `values.text_for` understands."""
_KEYWORDS = {"ge": "minimum", "le": "maximum", "gt": "exclusiveMinimum"}
"""Limits on the result of a validator, which pydantic names otherwise."""
_MAX_DELETE: JsonSchemaValue = {
    "anyOf": [
        {"type": "integer", "minimum": 0},
        {"type": "string", "pattern": r"^([0-9]+|(100(\.0+)?|[0-9]{1,2}(\.[0-9]+)?)%)$"},
    ]
}


class _Generator(GenerateJsonSchema):
    """pydantic's generator, with the forms that the validators of the config take."""

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> JsonSchemaValue:
        """Add the texts that a validator converts."""
        function = schema["function"]["function"]
        if function is values.max_delete:
            return _MAX_DELETE
        inner = super().function_before_schema(schema)
        return {"anyOf": [inner, _FORMS[function]]} if function in _FORMS else inner

    def function_after_schema(self, schema: core_schema.AfterValidatorFunctionSchema) -> JsonSchemaValue:
        """Add the pattern of a text that a validator checks."""
        inner = super().function_after_schema(schema)
        function = schema["function"]["function"]
        if getattr(function, "__qualname__", "").startswith("text_for."):
            function = inspect.getclosurevars(function).nonlocals["parse"]
        if function in _PATTERNS:
            return inner | {"pattern": _PATTERNS[function]}
        if function is check_cache_ttl:
            return {"anyOf": [{"enum": list(CACHE_TTLS)}, _FORMS[values.seconds]]}
        if getattr(function, "__qualname__", "").startswith("_fields."):
            return _metadata(**inspect.getclosurevars(function).nonlocals)
        return inner

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """Leave null out, which TOML does not have."""
        return self.generate_inner(schema["schema"])


def _metadata(reserved: str, most: int, given: str) -> JsonSchemaValue:
    forbidden = "|".join((reserved + " " + given).split())
    return {
        "type": "object",
        "maxProperties": most,
        "propertyNames": {"pattern": f"^(?!({forbidden})$){FIELD_NAME}$"},
        "additionalProperties": {
            "anyOf": [{"enum": list(FIELD_SOURCES)}, {"type": "string", "pattern": rf"^{FRONT_FIELD}.*\S"}]
        },
    }


def json_schema() -> str:
    """Return the schema as JSON."""
    schema = Config.model_json_schema(schema_generator=_Generator)
    definitions = schema.pop("$defs")
    for model in every_model():
        _describe(definitions[model.__name__] if model is not Config else schema, model)
    definitions["KVSection"]["not"] = {"required": ["namespace_id", "namespace_title"]}
    _join_targets(definitions)
    schema["properties"]["mirrors"] |= {"propertyNames": {"pattern": f"^{MIRROR_NAME.pattern}$"}}
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_URL,
        "title": "syncd",
        "description": "The config of syncd. Every key can come from the environment, too, so none is required here.",
    }
    return json.dumps(head | schema | head | {"$defs": definitions}, indent=2, ensure_ascii=False) + "\n"


def _describe(section: JsonSchemaValue, model: type[BaseModel]) -> None:
    """Replace pydantic's titles and defaults by the descriptions, defaults and examples of the settings."""
    if model is not BoostSection:
        section.pop("required", None)
    section.pop("title", None)
    section["description"] = inspect.cleandoc(model.__doc__ or "").partition("\n")[0]
    for setting in settings(model):
        section["properties"][setting.name] = _property(section["properties"][setting.name], setting)


def _property(found: JsonSchemaValue, setting: Setting) -> JsonSchemaValue:
    without = {
        _KEYWORDS.get(name, name): value
        for name, value in found.items()
        if name not in ("title", "default", "format", "description")
    }
    # The OpenAPI keyword is unknown to JSON Schema. Each target has a constant type.
    without.pop("discriminator", None)
    unit = f" Unit: {setting.unit}." if setting.unit else ""
    described = {"description": setting.description + unit} | without
    if setting.default is not None and setting.table is None:
        described["default"] = _value(setting.default)
    if setting.example and "writeOnly" not in found:
        described["examples"] = [_value(setting.example)]
    return described


def _join_targets(definitions: JsonSchemaValue) -> None:
    """Let a target without a type have the keys of every type, since the type may stand in [defaults]."""
    target = definitions["MirrorConfig"]["properties"]["target"]
    keys: dict[str, list[JsonSchemaValue]] = {}
    for variant in target["oneOf"]:
        section = definitions[variant["$ref"].rpartition("/")[2]]
        section["required"] = ["type"]
        for name in section["properties"]:
            keys.setdefault(name, []).append({"$ref": f"{variant['$ref']}/properties/{name}"})
    target["oneOf"].append(
        {
            "type": "object",
            "description": "A target whose type stands in [defaults.target].",
            "additionalProperties": False,
            "properties": {
                name: {"anyOf": found} if len(found) > 1 else found[0] for name, found in keys.items() if name != "type"
            },
        }
    )


def _value(text: str) -> Any:
    return tomllib.loads(f"value = {text}")["value"]
