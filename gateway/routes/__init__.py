"""What a path leads to: `upstream` has a blueprint per service, the others are responses of the gateway's own."""
