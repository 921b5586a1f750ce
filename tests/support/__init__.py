"""Helpers of the tests: real clients, gateways, services and Redis servers."""
