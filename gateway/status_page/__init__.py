"""The page at /status: its own parts, served to operators alone."""
