"""The settings of gunicorn's HTTP parser, for workers and `flask explain`."""

from __future__ import annotations

PARSER_SETTINGS: dict[str, str | int | bool] = {
    # The strict parser: gunicorn_h1c, which "auto" prefers if installed, accepts bare LF and obs-fold.
    "http_parser": "python",
    "limit_request_line": 8190,
    "limit_request_fields": 100,
    "limit_request_field_size": 16380,
    "permit_obsolete_folding": False,
    "strip_header_spaces": False,
    "permit_unconventional_http_version": False,
    "casefold_http_method": False,
    # Any token is a method (RFC 9110 9.1); a service may define its own.
    "permit_unconventional_http_method": True,
    # X_User_Id and X-User-Id are the same header to a WSGI service.
    "header_map": "drop",
    # The setting proxy.trusted_hops decides whose forwarding headers are trusted.
    "forwarded_allow_ips": "",
    "forwarder_headers": "",
}
