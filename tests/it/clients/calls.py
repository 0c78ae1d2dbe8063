"""Clients of Python: `calls.py CLIENT BASE CA USER PASSWORD` mints, calls, uploads and revokes, and prints a line a step."""

import base64
import json
import sys

client, base, ca, user, password = sys.argv[1:]
endpoint = base + "/ds-api/user-token"
body = b"0123456789" * 10_000
small = b'{"name":"a"}'


def say(step, status, challenge=None):
    print(step, status, *([challenge] if challenge else []), flush=True)


def steps(ask):
    """`ask(method, url, token, login, body)` gives status, text and challenge, as the client's own interface shows them."""
    status, text, _ = ask("POST", endpoint, None, True, None)
    token = json.loads(text)["user-token"]
    say("mint", status)
    for step, method, url, with_token, content in [
        ("call", "GET", base + "/ds-api/agents?x=1", True, None),
        ("without", "GET", base + "/ds-api/agents?x=2", False, None),
        ("HEAD", "HEAD", base + "/ds-api/small", True, None),
        ("POST", "POST", base + "/ds-api/small", True, small),
        ("PUT", "PUT", base + "/ds-api/small", True, small),
        ("PATCH", "PATCH", base + "/ds-api/small", True, small),
        ("DELETE", "DELETE", base + "/ds-api/small", True, None),
        ("upload", "PUT", base + "/ds-api/upload", True, body),
        ("revoke", "DELETE", endpoint, True, None),
        ("after", "GET", base + "/ds-api/agents?x=3", True, None),
    ]:
        status, _, challenge = ask(method, url, token if with_token else None, False, content)
        say(step, status, challenge)


def with_urllib():
    import ssl
    import urllib.error
    import urllib.request

    tls = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca))
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    passwords.add_password(None, endpoint, user, password)
    # It asks without a password first and follows the challenge.
    login = urllib.request.build_opener(tls, urllib.request.HTTPBasicAuthHandler(passwords))
    plain = urllib.request.build_opener(tls)

    def ask(method, url, token, is_login, content):
        request = urllib.request.Request(url, data=content, method=method)
        if token:
            request.add_header("user-token", token)
        try:
            with (login if is_login else plain).open(request, timeout=60) as answer:
                return answer.status, answer.read(), answer.headers["WWW-Authenticate"]
        except urllib.error.HTTPError as error:
            return error.code, error.read(), error.headers["WWW-Authenticate"]

    steps(ask)


def with_http_client():
    import http.client
    import ssl
    import urllib.parse

    parts = urllib.parse.urlsplit(base)
    if parts.scheme == "https":
        context = ssl.create_default_context(cafile=ca)
        connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=60, context=context)
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)

    def ask(method, url, token, is_login, content):
        fields = {"user-token": token} if token else {}
        if is_login:
            fields["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        target = url.removeprefix(base)
        # One connection for all of it, and a long body in chunks.
        chunks = iter([content[:7], content[7:]]) if content == body else content
        connection.request(method, target, body=chunks, headers=fields, encode_chunked=content == body)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.getheader("WWW-Authenticate")

    steps(ask)


def with_requests():
    import requests

    session = requests.Session()

    def ask(method, url, token, is_login, content):
        fields = {"user-token": token} if token else {}
        login = (user, password) if is_login else None
        answer = session.request(method, url, headers=fields, auth=login, data=content, timeout=60, verify=ca)
        return answer.status_code, answer.content, answer.headers.get("WWW-Authenticate")

    steps(ask)


def with_httpx(is_http2):
    import ssl

    import httpx

    # Without TLS httpx speaks HTTP/1.1 whatever it is told, unless told not to.
    context = ssl.create_default_context(cafile=ca)
    with httpx.Client(http2=is_http2, verify=context, timeout=60) as session:

        def ask(method, url, token, is_login, content):
            fields = {"user-token": token} if token else {}
            login = (user, password) if is_login else None
            answer = session.request(method, url, headers=fields, auth=login, content=content)
            expected = "HTTP/2" if is_http2 and base.startswith("https") else "HTTP/1.1"
            assert answer.http_version == expected, answer.http_version
            return answer.status_code, answer.content, answer.headers.get("WWW-Authenticate")

        steps(ask)


{
    "urllib": with_urllib,
    "http.client": with_http_client,
    "requests": with_requests,
    "httpx": lambda: with_httpx(False),
    "httpx-http2": lambda: with_httpx(True),
}[client]()
