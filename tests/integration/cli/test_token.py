"""`flask token` prints tokens that the gateway accepts."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway import create_app
from tests.support.commands import run_flask
from tests.support.configuration import loaded
from tests.support.gateway import ROOT, GatewayProcess, four_services, variables
from tests.support.tokens import SECRET
from tests.support.upstream import ScriptedUpstream


def test_gateway_accepts_the_token(
    start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream
) -> None:
    jwt_settings = {
        "secret": SECRET * 2,
        "issuer": "https://id.example",
        "audience": ["gateway", "else"],
        "algorithms": ["HS512", "HS256"],
        "required_claims": ["exp", "sub", "user_id"],
    }
    settings = {**four_services(module_upstream.url), "jwt": jwt_settings}
    settings["services"]["devices"]["scopes"] = ["devices:read"]
    gateway = start_gateway(settings, workers=1)
    claims = ("--claim", "user_id=42", "--claim", "scope=devices:read devices:write")
    code, output, errors = run_flask("token", "--sub", "zoë@example.com", *claims, environ=variables(settings))
    assert (code, errors) == (0, "")
    module_upstream.reset()
    reply = gateway.get("/api/devices", ("Authorization", f"Bearer {output.strip()}"))
    assert reply.status == 200
    assert module_upstream.only.values("x-user-subject") == ["zo%C3%AB@example.com"]
    assert module_upstream.only.values("x-user-id") == ["42"]
    # If a required claim is missing, the command says so. Otherwise the user would only see a 401 later.
    code, output, errors = run_flask("token", "--sub", "x", environ=variables(settings))
    assert (code, output) == (2, "")
    assert "jwt.required_claims also has user_id: give --claim NAME=VALUE" in errors


def token_output(*words: str, **jwt_settings: object) -> tuple[int, str]:
    """Runs `flask token` in this process. Returns its exit code and all of its output."""
    app = create_app(loaded({"jwt": {"secret": SECRET, **jwt_settings}}))
    result = app.test_cli_runner().invoke(args=["token", *words])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


def claims_of(*words: str, **jwt_settings: object) -> dict[str, object]:
    code, output = token_output("--sub", "ada", *words, **jwt_settings)
    assert code == 0
    claims: dict[str, object] = jwt.decode(output.strip(), SECRET, ["HS256"], options={"verify_aud": False})
    return claims


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("5m", 300), ("1h", 3600), ("7d", 604800), ("3650d", 315360000)]
)
def test_lifetime_of_a_token(text: str, seconds: int) -> None:
    claims = claims_of("--expires", text)
    assert isinstance(claims["exp"], int)
    assert isinstance(claims["iat"], int)
    assert claims["exp"] - claims["iat"] == seconds


@pytest.mark.parametrize(
    "text", ["", "5", "0s", "-5m", "1.5h", "1w", "h", "1h30m", "99999d", "٣d", "1 h", "9" * 5000 + "s"]
)
def test_invalid_durations_are_refused(text: str) -> None:
    code, output = token_output("--sub", "ada", f"--expires={text}")
    assert code == 2
    assert f"Invalid value for '--expires': {text!r} is not a duration such as 90s, 5m, 1h or 7d" in output


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("user_id=42", 42),
        ("user_id=alice", "alice"),
        ("user_id=", ""),
        ("user_id=a=b", "a=b"),
        ("user_id=true", True),
        ('user_id="42"', "42"),
        ('user_id=["a", {"b": null}]', ["a", {"b": None}]),
        ("user_id=[a", "[a"),
        # Python parses these values as JSON, but other libraries do not, so they are passed as text.
        ("user_id=NaN", "NaN"),
        ("user_id=-Infinity", "-Infinity"),
        ("user_id=1e999", "1e999"),
        ("user_id=" + "[" * 3000, "[" * 3000),
    ],
)
def test_claims_are_json_or_plain_text(text: str, value: object) -> None:
    assert claims_of("--claim", text)["user_id"] == value


def test_issuer_and_audience_are_the_configured_ones() -> None:
    claims = claims_of(issuer="https://id.example", audience="gateway")
    assert (claims["sub"], claims["iss"], claims["aud"]) == ("ada", "https://id.example", "gateway")
    assert claims_of(audience=["one", "two"])["aud"] == ["one", "two"]
    assert claims_of("--claim", "aud=one", audience=["one", "two"])["aud"] == "one"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sub", "ada", "--claim", "user_id"], "'--claim': must be NAME=VALUE, got 'user_id'"),
        (["--sub", "ada", "--claim", "=42"], "'--claim': must be NAME=VALUE, got '=42'"),
        (["--sub", "ada", "--claim", ""], "'--claim': must be NAME=VALUE, got ''"),
        (["--sub", "ada", "--claim", "iss=5"], "'--claim': Issuer (iss) must be a string."),
        (["--sub", ""], "'--sub': must not be empty"),
        ([], "Missing option '--sub'"),
        (["--sub", "ada", "extra"], "Got unexpected extra argument (extra)"),
    ],
)
def test_invalid_arguments_of_token_are_refused(words: list[str], said: str) -> None:
    code, output = token_output(*words)
    assert code == 2
    assert said in output


@pytest.mark.parametrize(
    ("words", "jwt_settings", "why"),
    [
        (["--claim", "exp=1"], {}, "the token has expired"),
        (["--claim", "exp=soon"], {}, "the token's exp is not a number"),
        (["--claim", "nbf=9999999999"], {}, "the token is not valid yet"),
        (["--claim", "aud=x"], {}, "the token is meant for someone else"),
        (["--claim", "iss=x"], {"issuer": "y"}, "the token's issuer is not accepted"),
        (["--claim", "sub="], {}, "the token's sub is empty"),
        (["--claim", "jti=1"], {}, "the token can't be read"),
        (["--expires", "2h"], {"max_lifetime_seconds": 3600}, "the token is valid for too long"),
        (["--claim", "x=" + "y" * 8192], {}, "the token is longer than 8192 bytes"),
    ],
)
def test_token_that_the_gateway_would_refuse_is_not_printed(
    words: list[str], jwt_settings: dict[str, object], why: str
) -> None:
    assert token_output("--sub", "ada", *words, **jwt_settings) == (
        1,
        f"Error: the gateway would refuse this token: {why}\n",
    )


def test_token_has_an_id_and_the_configured_type() -> None:
    first, second = claims_of(), claims_of()
    assert isinstance(first["jti"], str)
    assert first["jti"] != second["jti"]
    code, output = token_output(
        "--sub", "ada", token_type="application/at+jwt", algorithms=["HS384"], secret=SECRET * 2
    )
    assert code == 0
    header = jwt.get_unverified_header(output.strip())
    assert (header["typ"], header["alg"]) == ("application/at+jwt", "HS384")


def test_only_issuers_with_a_secret_sign() -> None:
    issuers = [
        {"issuer": "https://one.test", "secret": SECRET, "audience": "gateway"},
        {"issuer": "https://two.test", "jwks_url": "http://127.0.0.1:1/keys"},
    ]
    third = {"issuer": "https://three.test", "secret": SECRET[::-1]}

    def output(*words: str, several: list[dict[str, str]]) -> tuple[int, str]:
        result = create_app(loaded({"jwt": {"issuers": several}})).test_cli_runner()
        found = result.invoke(args=["token", "--sub", "ada", *words])
        return found.exit_code, found.output

    code, made = output(several=issuers)
    claims = jwt.decode(made.strip(), SECRET, ["HS256"], audience="gateway")
    assert (code, claims["iss"]) == (0, "https://one.test")
    code, made = output("--issuer", "https://three.test", several=[*issuers, third])
    assert (code, jwt.decode(made.strip(), SECRET[::-1], ["HS256"])["iss"]) == (0, "https://three.test")
    for words, several, ends, said in [
        ((), [*issuers, third], 2, "several issuers are configured, give --issuer: https://one.test, "),
        (("--issuer", "x"), issuers, 2, "there is no issuer 'x'"),
        (("--issuer", "https://two.test"), issuers, 1, "tokens of https://two.test are verified with its jwks_url"),
        ((), issuers[1:], 1, "tokens are verified with jwt.jwks_url: only their issuer can sign them"),
    ]:
        code, printed = output(*words, several=several)
        assert code == ends
        assert said in printed


def test_token_can_not_be_signed_with_a_public_key(tmp_path: Path) -> None:
    public_key = ec.generate_private_key(ec.SECP256R1()).public_key()
    (tmp_path / "key.pem").write_bytes(public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    app = create_app(loaded({"jwt": {"public_key_file": str(tmp_path / "key.pem")}}))
    said = {("token --sub ada", 1): "only their issuer can sign them", ("demo", 2): "jwt.secret is not set"}
    for (command, code), text in said.items():
        result = app.test_cli_runner().invoke(args=command.split())
        assert result.exit_code == code
        assert text in result.output


def test_generated_secret_signs_and_a_warning_names_the_setting(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "gateway", tmp_path / "gateway")
    shutil.copy(ROOT / "wsgi.py", tmp_path)
    code, output, errors = run_flask("token", "--sub", "ada", environ={}, folder=tmp_path)
    secret = (tmp_path / "instance" / "jwt-secret").read_text()
    assert (code, jwt.decode(output.strip(), secret, ["HS256"])["sub"]) == (0, "ada")
    assert errors.startswith(
        f"jwt.secret is not set: tokens are verified with the secret generated in {tmp_path}/instance"
    )
    assert secret not in errors
