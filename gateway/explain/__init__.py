"""What would happen to a request: the real stages are run on it, up to where it would be sent.

`asking` writes the request and has gunicorn's parser read it, `trial` builds the gateway with the parts of `looking`
(no quota is taken, no service is asked) and runs its stages, `findings` and `callers` tell what came of each, `showing`
what of header fields can be shown, and `explanation` is all of it.
"""
