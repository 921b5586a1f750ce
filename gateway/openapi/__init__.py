"""The engine of the merged API document: bytes of services' documents in, one OpenAPI 3.1 document out.

Pure functions over plain dicts, without Flask, network or Redis; nothing that is passed in is ever changed. The way of
a document through the files: `reading` (bytes to a dict, or DocumentError) → `placing` and `matching` (where an
operation is at the gateway, and by whose policy) → `operations` (one by one: parameters, responses, `security`) →
`rewriting` (every name prefixed, every reference followed by `lookup`, 3.0 lifted to 3.1 by `lift`) → `truth` (what the
gateway asks and answers) → `merge`. `structure` knows where in a document which kind of object stands; `rebuilding` and
all the others walk by it, never by the names of keys alone. `omissions` lists what is left out on the way, and why.
`drift` compares what the services say about tokens with what the gateway does.
"""

from gateway.openapi.drift import Drift, drifts
from gateway.openapi.inputs import GatewayFacts, ServiceDocument
from gateway.openapi.merge import document_of, merge
from gateway.openapi.omissions import DROPPED_PARTS
from gateway.openapi.operation_policy import PolicyTable, policy_for
from gateway.openapi.reading import DocumentError, read

__all__ = [
    "DROPPED_PARTS",
    "DocumentError",
    "Drift",
    "GatewayFacts",
    "PolicyTable",
    "ServiceDocument",
    "document_of",
    "drifts",
    "merge",
    "policy_for",
    "read",
]
