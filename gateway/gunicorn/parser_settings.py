"""The settings of gunicorn's HTTP parser, for workers and `flask explain`."""

from __future__ import annotations

PARSER_SETTINGS: dict[str, str | int | bool] = {
    # gunicorn's strict parser. "auto" would prefer gunicorn_h1c if it is installed, which accepts bare LF and obs-fold.
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
    # Drops fields with an underscore: to a WSGI service, X_User_Id and X-User-Id are the same header.
    "header_map": "drop",
    # gunicorn trusts no forwarding headers: the gateway's setting proxy.trusted_hops decides about them.
    "forwarded_allow_ips": "",
    "forwarder_headers": "",
}
