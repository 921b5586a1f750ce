"""What operators see at `/status`: the figures of all workers of all gateways that share the Redis. No Flask.

`recent` counts what one worker saw of late, `present` tells how it is now, `reports` is how both are written for the
others, `sharing` passes them on, `summary` adds them up; `masking` shows the configuration without its secrets, and
`desk` makes of all that the document which the page shows.
"""
