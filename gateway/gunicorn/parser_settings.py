"""By which of gunicorn's settings messages are read, in workers and by `flask explain`."""

from __future__ import annotations

MESSAGE_RULES: dict[str, str | int | bool] = {
    # The strict parser: gunicorn_h1c, which "auto" prefers where it is installed, takes bare LF and obs-fold.
    "http_parser": "python",
    "limit_request_line": 8190,
    "limit_request_fields": 100,
    "limit_request_field_size": 16380,
    "permit_obsolete_folding": False,
    "strip_header_spaces": False,
    "permit_unconventional_http_version": False,
    "casefold_http_method": False,
    # Any token is a method (RFC 9110 9.1); what it means is its service's business.
    "permit_unconventional_http_method": True,
    # X_User_Id and X-User-Id are the same to a WSGI service.
    "header_map": "drop",
    # Whom to believe about the client is the gateway's setting proxy.trusted_hops, not gunicorn's.
    "forwarded_allow_ips": "",
    "forwarder_headers": "",
}
