"""Redis: the client that never makes a request wait, and the server of one's own where none is configured."""
