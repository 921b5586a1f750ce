"""Bearer tokens: who sends a request (RFC 6750, 7515, 7519, 8725). No Flask here; `gateway.stages.authentication` is
the adapter.

In reading order: `verifier` turns a token into a `principal`, or raises the reason why it is not valid. Each `issuer`
of tokens has a `key_source`: fixed `keys`, or a JSON Web Key Set (`jwks`) that `remote_jwks` downloads and refreshes.
`signature` parses and verifies the token itself; `issuer_factory` makes the issuers of the configuration. `token_cache`
stores verified tokens until they expire, and `revocation` refuses tokens before they expire. `identity_signer` signs a
token that tells a service who the caller is.

Glossary:
- claims: the content of a token, as the issuer has written it
- principal: the caller, as identified by a verified token
- issuer: who creates and signs tokens; the claim `iss`
- kid: the id of the key that signed a token, in the token's header
- signing input: the part of a token that is signed: header and payload (RFC 7515 2)
"""
