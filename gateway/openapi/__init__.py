"""The engine that merges the services' API documents: bytes of OpenAPI 3.0 and 3.1 in, one OpenAPI 3.1 document out.

Pure functions over plain dicts, without Flask, network or Redis. Nothing that is passed in is changed.

1. `parsing` turns bytes into a document (`yaml_text` for YAML), within bounds.
2. `path_mapping` finds the path at which clients call an operation, `path_filter` hides paths, `operation_policy` finds
   the policy that requests of the operation get.
3. `fragment` builds one service's part of the result. `rewriter` prefixes names and follows references in it, with
   `component_lookup`, `references`, `names` and `discriminators`; `upgrade_to_3_1` converts 3.0; `security` and
   `oauth_flows` describe the credentials that clients need.
4. `gateway_annotations` adds to each operation what the gateway requires and responds with; `gateway_components` has
   the components that these additions refer to.
5. `merge` joins the fragments of all services (`inputs`) to one document.

`object_types` lists which kind of object each field of an OpenAPI object holds. `object_copy` and `references` find the
objects of a document by that list, not by the names of keys, because a key such as `$ref` can also be the name of a
property. `omissions` records what is left out, and why. `drift` compares the documents with the configuration.
"""

from gateway.openapi.drift import Drift, drifts
from gateway.openapi.inputs import GatewayFacts, ServiceDocument
from gateway.openapi.merge import document_of, merge
from gateway.openapi.omissions import DROPPED_PARTS
from gateway.openapi.parsing import DocumentError, parse_document

__all__ = [
    "DROPPED_PARTS",
    "DocumentError",
    "Drift",
    "GatewayFacts",
    "ServiceDocument",
    "document_of",
    "drifts",
    "merge",
    "parse_document",
]
