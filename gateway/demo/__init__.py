"""Four small services to try the gateway with: an in-memory auth service, and three that keep things in a list."""
