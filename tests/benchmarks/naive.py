"""The gateway that most teams write first, for comparison: Flask, requests, PyJWT, Flask-Limiter and flask-cors, with
one line for each feature. It only looks correct; never use it."""

import os

import jwt
import requests
from flask import Flask, Response, g, jsonify, request
from flask.typing import ResponseReturnValue
from flask_cors import CORS
from flask_limiter import Limiter

SERVICE = os.environ["NAIVE_SERVICE"]
HOPS = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "content-length", "host"}

app = Flask(__name__)
CORS(app, origins=["http://localhost:3000"])


@app.before_request
def check_token() -> ResponseReturnValue | None:
    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    try:
        g.claims = jwt.decode(token, os.environ["NAIVE_SECRET"], algorithms=["HS256"])
    except jwt.PyJWTError:
        return jsonify(detail="unauthorized"), 401
    return None


Limiter(
    lambda: g.claims["sub"],
    app=app,
    storage_uri=os.environ["NAIVE_REDIS"],
    default_limits=["100000000/minute"],
    headers_enabled=True,
)


@app.route("/api/devices", methods=["GET", "POST"])
def forward() -> Response:
    fields = {name: value for name, value in request.headers if name.lower() not in HOPS}
    answer = requests.request(
        request.method, SERVICE + request.full_path, data=request.get_data(), headers=fields, timeout=30
    )
    kept = [(name, value) for name, value in answer.headers.items() if name.lower() not in HOPS]
    return Response(answer.content, answer.status_code, kept)
