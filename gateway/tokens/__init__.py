"""Who is calling: bearer tokens are verified here (RFC 6750, 7515, 7519, 8725), without any Flask.

`keys` holds what verifies and what each key may be used for, `verifier` turns a token into a `principal` or says why
not.
"""
