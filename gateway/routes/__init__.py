"""The gateway's routes. `upstream` makes a blueprint for each service; the other modules respond on behalf of the
gateway itself."""
