"""Everything in a service's document is in the merged document or listed as left out."""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterable
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from fastapi import APIRouter, Cookie, Depends, FastAPI, Header
from fastapi.security import OAuth2PasswordBearer
from fastapi.sse import EventSourceResponse
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from gateway.openapi import parse_document
from tests.support.openapi import document, merged, operation, part
from tests.support.openapi_walk import dangling, differences

PATH = "/api/s/x"
DATA = Path(__file__).parents[2] / "data" / "openapi"


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    pair: tuple[int, str] = (1, "a")
    parent: Dog | None = None


class Pet(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    any: Cat | Dog | str = ""


def fastapi_document() -> dict[str, Any]:
    """The document of an application that uses FastAPI's features beyond plain JSON."""
    app = FastAPI(
        title="S",
        version="1.10",
        summary="short",
        description="long",
        contact={"name": "C", "url": "https://h/c"},
        license_info={"name": "MIT"},
        terms_of_service="https://h/terms",
        separate_input_output_schemas=False,
    )
    callbacks = APIRouter()

    @callbacks.post("{$request.body#/url}")
    def called(pet: Pet) -> Cat:
        return Cat(kind="cat", lives=9)

    @app.get("/api/s/events", response_class=EventSourceResponse)
    async def events() -> AsyncIterable[Pet]:
        yield Pet(pet=Cat(kind="cat", lives=9))

    @app.get("/api/s/lines")
    async def lines() -> AsyncIterable[Dog]:
        yield Dog(kind="dog")

    @app.post(PATH, callbacks=callbacks.routes, responses={"4XX": {"model": Cat}, 201: {"model": list[Dog]}})
    def write(
        pet: Pet,
        login: Annotated[str, Depends(OAuth2PasswordBearer("api/auth/login"))],
        x_other: Annotated[str, Header()],
        session: Annotated[str | None, Cookie()] = None,
    ) -> dict[str, tuple[Cat, Dog]]:
        return {}

    @app.webhooks.post("changed")
    def changed(pet: Pet) -> None:
        """FastAPI documents webhooks and never calls them."""

    return json.loads(json.dumps(app.openapi()))  # type: ignore[no-any-return]


WRITTEN_30 = """
openapi: 3.0.3
info: {title: 2024, version: 1.10}
paths:
  /api/s/x:
    parameters: [{$ref: '#/components/parameters/P'}]
    post:
      requestBody: {$ref: '#/components/requestBodies/B'}
      responses:
        200: {description: fine, content: {application/json: {schema: {$ref: '#/components/schemas/Method'}}}}
        2xx: {description: also fine, content: {a/b: {schema: {$ref: '#/components/schemas/Tuple'}}}}
        default: {$ref: '#/components/responses/R'}
components:
  parameters: {P: {name: p, in: query, schema: {$ref: '#/components/schemas/Tuple/items/0'}}}
  requestBodies: {B: {content: {a/b: {schema: {type: object, nullable: true, additionalProperties: {$ref: '#/components/schemas/Card'}}}}}}
  responses: {R: {description: r, headers: {H: {schema: {$ref: '#/components/schemas/Card'}}}}}
  schemas:
    Tuple: {type: array, items: [{type: integer}, {$ref: '#/components/schemas/Card'}], additionalItems: {$ref: '#/components/schemas/Rest'}}
    Card: {title: 7, properties: {number: {type: string, example: 1, nullable: true}}, dependencies: {a: [b], c: {$ref: '#/components/schemas/Rest'}}}
    Rest: {allOf: [{$ref: '#/components/schemas/Card'}], nullable: true}
    Method:
      x-anyOf: [{$ref: '#/components/schemas/Card'}, {properties: {default: {$ref: '#/components/schemas/Only'}}}]
      type: object
    Only: {x-oneOf: {deep: [{$ref: '#/components/schemas/Only2'}]}, x-gone: {$ref: '#/components/schemas/Gone'}}
    Only2: {unknownWord: {$ref: '#/components/schemas/Only3'}}
    Only3: {type: string}
"""  # noqa: E501 - one line a component


def check(given: dict[str, Any], **more: Any) -> dict[str, Any]:
    result = merged(part("s", given, **more))
    assert list(dangling(result, result)) == []
    assert differences(given, result, "s") == []
    return result


def dropped(result: dict[str, Any]) -> dict[str, str]:
    entry = result["info"]["x-gateway-services"]["s"]
    return {one["pointer"]: one["reason"] for one in entry.get("x-gateway-dropped", [])}


def test_all_of_a_fastapi_document_is_merged() -> None:
    result = check(fastapi_document())
    assert list(dropped(result)) == ["/webhooks"]
    assert len(result["paths"]) == 3
    text = json.dumps(result)
    assert {"s_Cat", "s_Dog", "s_Pet"} <= result["components"]["schemas"].keys()
    events = result["paths"]["/api/s/events"]["get"]["responses"]["200"]["content"]["text/event-stream"]
    assert events["itemSchema"]["properties"]["data"]["contentSchema"] == {"$ref": "#/components/schemas/s_Pet"}
    lines = result["paths"]["/api/s/lines"]["get"]["responses"]["200"]["content"]["application/jsonl"]
    assert lines == {"itemSchema": {"$ref": "#/components/schemas/s_Dog"}}
    entry = result["info"]["x-gateway-services"]["s"]
    assert entry["contact"] == {"name": "C", "url": "https://h/c"}
    assert (entry["license"], entry["termsOfService"]) == ({"name": "MIT"}, "https://h/terms")
    assert (entry["summary"], entry["description"]) == ("short", "long")
    assert "prefixItems" in text


def test_all_of_a_hand_written_document_is_merged() -> None:
    result = check(parse_document(WRITTEN_30.encode()))
    entry = result["info"]["x-gateway-services"]["s"]
    assert (entry["title"], entry["version"]) == ("2024", "1.10")
    schemas = result["components"]["schemas"]
    assert schemas["s_Method"]["x-anyOf"][0] == {"$ref": "#/components/schemas/s_Card"}
    assert schemas["s_Method"]["x-anyOf"][1]["properties"] == {"default": {"$ref": "#/components/schemas/s_Only"}}
    assert schemas["s_Only2"]["unknownWord"] == {"$ref": "#/components/schemas/s_Only3"}
    assert schemas["s_Card"]["title"] == "7"
    assert "2XX" in result["paths"][PATH]["post"]["responses"]
    assert dropped(result) == {"/components/schemas/Only/x-gone/$ref": "the reference has no target in this document"}


@pytest.mark.parametrize("name", ["0_88_rules", "0_165_devices"])
def test_all_of_documents_of_earlier_fastapi_versions_is_merged(name: str) -> None:
    given = parse_document((DATA / f"fastapi_{name}.json").read_bytes())
    result = merged(part("s", given, prefix="/api"))
    assert differences(given, result, "s") == []
    assert list(dangling(result, result)) == []
    assert len(result["paths"]) > 1


ENCODED = {
    "requestBody": {
        "content": {
            "multipart/mixed": {
                "itemSchema": {"$ref": "#/components/schemas/A"},
                "prefixEncoding": [{"headers": {"H": {"schema": {"$ref": "#/components/schemas/A"}}}}],
                "itemEncoding": {"encoding": {"a": {"contentType": "c/d"}}},
            }
        }
    }
}  # fmt: skip


@pytest.mark.parametrize("version", ["3.0.3", "3.1.0"])
def test_encodings_of_items_are_merged(version: str) -> None:
    check(
        document({PATH: {"post": operation(**ENCODED)}}, version=version, components={"schemas": {"A": {"title": "A"}}})
    )


ELSEWHERE = [{"url": "https://uploads.example.com/"}]


@pytest.mark.parametrize(
    ("given", "pointers"),
    [
        (document(jsonSchemaDialect="http://json-schema.org/draft-07/schema#"), ["/jsonSchemaDialect"]),
        (document(jsonSchemaDialect="https://spec.openapis.org/oas/3.1/dialect/base"), []),
        (document({PATH: {"get": operation()}}, webhooks={}, surprise=1, **{"x-logo": "l"}), ["/surprise", "/x-logo"]),
        (document({PATH: {"get": operation(), "servers": ELSEWHERE}}), ["/paths/~1api~1s~1x/servers"]),
        (document({PATH: {"get": operation(servers=ELSEWHERE)}}), ["/paths/~1api~1s~1x/get/servers"]),
        (document({PATH: {"get": operation(servers=[{"url": "/"}])}}), []),
        (document({PATH: {"get": operation(surprise=1), "query": {}}}),
         ["/paths/~1api~1s~1x/query", "/paths/~1api~1s~1x/get/surprise"]),
        (document({PATH: {"get": operation()}, "x-a": 1}, info={"title": "T", "version": [1], "contact": "c", "odd": 1,
                  "x-a": 1, "x-gateway-a": 1}),
         ["/info/version", "/info/contact", "/info/odd", "/info/x-gateway-a", "/paths/x-a"]),
        (document({PATH: {"get": operation(tags=["a"])}}, tags=[{"name": "b", "odd": 1}, {"name": "a", "kind": "nav"}]),
         ["/tags/1/kind"]),
        (document({PATH: {"get": operation(security=[{"unknown": []}], parameters={})}}),
         ["/paths/~1api~1s~1x/get/parameters", "/paths/~1api~1s~1x/get/security/0/unknown"]),
        (document({PATH: {"get": operation({"discriminator": {"propertyName": "k", "mapping": {"b": "B", "a": 1}}})}}),
         [f"/paths/~1api~1s~1x/get/responses/200/content/application~1json/schema/discriminator/mapping/{value}"
          for value in "ba"]),
        (document({PATH: {"get": operation(summary=[])}}), ["/paths/~1api~1s~1x/get/summary"]),
        (document({PATH: {"get": {"responses": {"abc": {}, "200": None, "4xx": {}, "4XX": {}, "201": 1}}}}),
         [f"/paths/~1api~1s~1x/get/responses/{status}" for status in ("abc", "4XX", "201")]),
        (document({PATH: {"get": operation(parameters=[{"name": "a"}, {"name": "Host", "in": "header"}])}}),
         ["/paths/~1api~1s~1x/get/parameters/0", "/paths/~1api~1s~1x/get/parameters/1"]),
        (document({PATH: {"get": operation({"$ref": "#/nowhere"})}}),
         ["/paths/~1api~1s~1x/get/responses/200/content/application~1json/schema/$ref"]),
        (document({PATH: None, "/elsewhere": None, "/api/s/hidden": None}), ["/paths/~1api~1s~1x"]),
        (document({PATH: {"get": operation()}, "/x": {"get": operation()}}, servers=[{"url": "/api/s"}]),
         ["/paths/~1x"]),
    ],
)  # fmt: skip
def test_omissions_are_listed(given: dict[str, Any], pointers: list[str]) -> None:
    result = merged(part("s", given, hidden_paths=("/api/s/hidden",)))
    assert list(dropped(result)) == pointers


def test_omissions_in_components_have_the_pointer_of_the_services_document() -> None:
    schemas = {"A": {"nullable": True, "allOf": [{"properties": {"a/b": None, "c": 1}}, 7]}}
    given = document(
        {PATH: {"get": operation({"$ref": "#/components/schemas/A"})}}, components={"schemas": schemas}, version="3.0.3"
    )
    assert list(dropped(merged(part("s", given)))) == [
        "/components/schemas/A/allOf/0/properties/c",
        "/components/schemas/A/allOf/1",
    ]


def test_list_of_omissions_is_bounded() -> None:
    given = document({PATH: {"get": operation(**{f"field{number}": 1 for number in range(10_000)})}})
    entry = merged(part("s", given))["info"]["x-gateway-services"]["s"]
    assert len(entry["x-gateway-dropped"]) == 100
    assert entry["x-gateway-dropped-more"] is True


def test_operations_own_servers_determine_its_path() -> None:
    item = {"get": operation(servers=[{"url": "/api/s/v2"}], operationId="new"), "put": operation(operationId="old")}
    paths = merged(part("s", document({"/x": item}, servers=[{"url": "/api/s"}])))["paths"]
    assert {path: list(item) for path, item in paths.items()} == {"/api/s/v2/x": ["get"], PATH: ["put"]}
    item["get"]["servers"] = [{"url": "/v2"}]
    stripped = merged(part("s", document({"/x": item}), strip_prefix=True))["paths"]
    assert {path: list(item) for path, item in stripped.items()} == {"/api/s/v2/x": ["get"], PATH: ["put"]}


references = st.sampled_from([f"#/components/schemas/{name}" for name in "ABC"]).map(lambda text: {"$ref": text})
texts = st.sampled_from(["a", "b", "$ref", "x-y", "default", "properties", "items"])
# Values of unknown keywords stay unchanged, except for references in them.
below_unknown: st.SearchStrategy[Any] = st.recursive(
    references,
    lambda inner: (
        st.dictionaries(st.sampled_from(["a", "b", "x-y"]), inner)
        | st.fixed_dictionaries({"properties": st.dictionaries(st.sampled_from(["a", "default", "enum"]), inner)})
        | st.lists(inner)
    ),
)
schemas: st.SearchStrategy[Any] = st.recursive(
    references | st.just({"type": "string"}) | st.just({"enum": [{"$ref": "#/no"}, None]}),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(texts, inner, min_size=1, max_size=2),
            "patternProperties": st.dictionaries(texts, inner, min_size=1, max_size=2),
            "dependencies": st.dictionaries(texts, inner | st.just(["a"]), min_size=1, max_size=2),
            "items": inner | st.lists(inner, min_size=1, max_size=2),
            "additionalItems": inner,
            "x-anyOf": below_unknown,
            "unknownWord": below_unknown,
            "not": inner,
            "contentSchema": inner,
            "oneOf": st.lists(inner, min_size=1, max_size=2),
            "default": st.just({"$ref": "#/no"}),
            "title": st.just("t"),
            "description": st.just("d"),
        },
    ),
    max_leaves=8,
)  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(
    st.fixed_dictionaries({"A": schemas, "B": schemas, "C": schemas}),
    schemas,
    st.sampled_from(["schema", "itemSchema"]),
    st.sampled_from(["3.0.3", "3.1.0"]),
)
def test_all_of_any_schema_is_merged(components: Any, schema: Any, key: str, version: str) -> None:
    response = {"description": "", "content": {"a/b": {key: schema}}}
    given = document(
        {PATH: {"get": {"responses": {"200": response}}}}, components={"schemas": components}, version=version
    )
    before = copy.deepcopy(given)
    check(given)
    assert given == before
