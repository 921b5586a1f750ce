"""Hypothesis strategies for environments with variables of the gateway: valid, invalid and odd ones."""

from __future__ import annotations

import json

from hypothesis import strategies as st

WORDS = st.sampled_from(
    "jwt secret services devices rules orders targets prefix routes path methods auth scopes limits cors origins "
    "credentials server bind workers redis_url ratelimit default proxy default_services claims_to_headers sub audience "
    "public_key_file algorithms ca_file port service_host 0".split()
)
# os.environ shows bytes that are not UTF-8 as U+DC80 to U+DCFF.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\udc80\udcff"), max_size=20)
NAMES = st.lists(WORDS | st.text(st.characters() | st.sampled_from("_A\udcff"), max_size=6), min_size=1, max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | TEXTS, inner, max_size=4),
    max_leaves=12,
)
PLAUSIBLE = st.sampled_from(
    [
        *"true off 5 -1 1e999 nan [] {} null [[]] none RS256 10/minute / /api/rules http://h tcp://h:1 redis://h".split(),
        *("", "[1", "{1", "\ufeff{}", '["\\ud800"]', "9" * 5000, '["*"]', '[{"path": "/api/devices/x"}]'),
    ]
)
ENVIRONMENTS = st.dictionaries(
    NAMES.map(lambda parts: "GATEWAY_" + "__".join(parts).upper())
    | st.sampled_from(["REDIS_URL", "PORT", "WEB_CONCURRENCY", "GATEWAY_", "GATEWAY_CONFIG"]),
    PLAUSIBLE | TEXTS | JSON.map(json.dumps),
    max_size=8,
)
