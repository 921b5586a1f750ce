"""Who is calling: bearer tokens are verified here (RFC 6750, 7515, 7519, 8725), without any Flask.

`verifier` turns a token into a `principal` or says why not: its `issuers` have each a `key_source`, of fixed `keys` or
of a published set (`jwks`); `token_cache` holds what was verified. `revocation` knows tokens that are not good any
more, `identity` signs who is calling for the service that is called.
"""
