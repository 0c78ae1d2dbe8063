"""Servers of Python's standard library and of PyPI, as the tests of tests/it/servers start them.

python apps.py KIND HOST PORT. Each answers with lines `read NAME VALUE`: the route that it took, `endpoint` or `other`,
and the paths that an application can ask it for. At /fields it answers with the fields as an application has them.
"""

import sys
from posixpath import normpath
from socketserver import StreamRequestHandler
from urllib.parse import unquote, unquote_plus, urlsplit

ENDPOINT = "/ds-api/user-token"
METHODS = ["GET", "POST", "DELETE"]

# Of the standard library's servers: otherwise each answer waits 40 ms for the client's kernel.
StreamRequestHandler.disable_nagle_algorithm = True


def answer(route, **paths):
    lines = {"route": route, **paths}
    text = "".join(f"read {name} {path}\n" for name, path in lines.items() if path is not None)
    return text.encode("utf-8", "backslashreplace")


def of_fields(fields):
    return "".join(f"{name}: {value}\n" for name, value in fields).encode("utf-8", "backslashreplace")


def of_environ(environ):
    return of_fields((name, value) for name, value in environ.items() if isinstance(value, str))


def split(target):
    """The path of a target; none where the library refuses it."""
    try:
        return urlsplit(target).path
    except ValueError:
        return None


def of_target(target):
    """What the standard library makes of a target."""
    path = split(target)
    if path is None:
        return {}
    return {
        "urlsplit": path,
        "unquote": unquote(path),
        "unquote_plus": unquote_plus(path),
        "normpath": normpath(unquote(path)),
        "latin1": unquote(path, "latin-1"),
    }


def wsgi(environ, start_response):
    """WSGI without a framework."""
    path = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")
    is_endpoint = path == ENDPOINT or path.startswith(ENDPOINT + "/")
    paths = {"path_info": path, "script": environ["SCRIPT_NAME"] + path}
    paths |= of_target(environ.get("RAW_URI") or environ.get("REQUEST_URI") or path)
    body = of_environ(environ) if path == "/fields" else answer("endpoint" if is_endpoint else "other", **paths)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def django():
    from django.conf import settings

    settings.configure(
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        SECRET_KEY="of a test",
        APPEND_SLASH=True,
        MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    )
    from django.core.wsgi import get_wsgi_application
    from django.http import HttpResponse
    from django.urls import path, re_path

    def view(route):
        def respond(request, **_):
            paths = {"path": request.path, "path_info": request.path_info}
            return HttpResponse(answer(route, **paths), content_type="text/plain")

        return respond

    def fields(request):
        lines = of_environ(request.META) + of_fields(request.headers.items())
        return HttpResponse(lines, content_type="text/plain")

    global urlpatterns
    urlpatterns = [
        path("fields", fields),
        path("ds-api/user-token", view("endpoint")),
        path("ds-api/user-token/<path:rest>", view("endpoint")),
        re_path(r"(?s)^.*", view("other")),
    ]
    return get_wsgi_application()


def flask():
    from flask import Flask, request

    app = Flask(__name__, static_folder=None)

    def respond(route):
        paths = {"path": request.path, "path_info": request.environ["PATH_INFO"]}
        return answer(route, **paths), {"Content-Type": "text/plain"}

    @app.route("/fields")
    def fields():
        return of_environ(request.environ) + of_fields(request.headers.items()), {"Content-Type": "text/plain"}

    @app.route("/ds-api/user-token", methods=METHODS)
    @app.route("/ds-api/user-token/<path:rest>", methods=METHODS)
    def endpoint(rest=None):
        return respond("endpoint")

    @app.route("/", defaults={"rest": ""}, methods=METHODS)
    @app.route("/<path:rest>", methods=METHODS)
    def other(rest):
        return respond("other")

    return app


def serve_werkzeug(host, port):
    from werkzeug.serving import WSGIRequestHandler, make_server

    WSGIRequestHandler.protocol_version = "HTTP/1.1"
    WSGIRequestHandler.log = lambda *_: None
    make_server(host, port, flask(), threaded=True).serve_forever()


def serve_gunicorn(application, host, port):
    from gunicorn.app.base import BaseApplication

    class Application(BaseApplication):
        def load_config(self):
            options = {"bind": f"{host}:{port}", "worker_class": "gthread", "threads": 4, "keepalive": 60}
            options["control_socket_disable"] = True
            # It would drop names with an underscore, as older ones do not.
            options["header_map"] = "dangerous"
            for name, value in options.items():
                self.cfg.set(name, value)

        def load(self):
            return application()

    Application().run()


def serve_starlette(host, port):
    import uvicorn
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    def view(route):
        async def respond(request):
            raw = request.scope["raw_path"].decode("latin-1")
            paths = {"path": request.scope["path"], "url": request.url.path, **of_target(raw)}
            return PlainTextResponse(answer(route, **paths))

        return respond

    async def fields(request):
        return PlainTextResponse(of_fields(request.headers.items()))

    routes = [
        Route("/fields", fields),
        Route("/ds-api/user-token", view("endpoint"), methods=METHODS),
        Route("/ds-api/user-token/{rest:path}", view("endpoint"), methods=METHODS),
        Route("/{rest:path}", view("other"), methods=METHODS),
    ]
    uvicorn.run(Starlette(routes=routes), host=host, port=port, log_level="error", timeout_keep_alive=60)


def serve_aiohttp(host, port):
    from aiohttp import web

    def view(route):
        async def respond(request):
            paths = {"path": request.path, "url": request.url.path, "raw": request.raw_path}
            return web.Response(body=answer(route, **paths), content_type="text/plain")

        return respond

    async def fields(request):
        return web.Response(body=of_fields(request.headers.items()), content_type="text/plain")

    app = web.Application()
    app.router.add_route("GET", "/fields", fields)
    for method in METHODS:
        app.router.add_route(method, "/ds-api/user-token", view("endpoint"))
        app.router.add_route(method, "/ds-api/user-token/{rest:.*}", view("endpoint"))
        app.router.add_route(method, "/{rest:.*}", view("other"))
    web.run_app(app, host=host, port=port, print=None, access_log=None)


def serve_tornado(host, port):
    import asyncio
    import logging

    from tornado.web import Application, RequestHandler

    logging.getLogger("tornado").setLevel(logging.CRITICAL)

    class Handler(RequestHandler):
        def initialize(self, route):
            self.route = route

        def get(self, *groups):
            raw = self.request.path
            groups = {f"group{number}": group for number, group in enumerate(groups)}
            self.write(answer(self.route, path=raw, **of_target(raw), **groups))

        post = delete = get

        def check_xsrf_cookie(self):
            pass

    class Fields(RequestHandler):
        def get(self):
            self.write(of_fields(self.request.headers.get_all()))

    async def main():
        routes = [
            ("/fields", Fields),
            (r"/ds-api/user-token(?:/(.*))?", Handler, {"route": "endpoint"}),
            (r"(.*)", Handler, {"route": "other"}),
        ]
        Application(routes).listen(port, host)
        await asyncio.Event().wait()

    asyncio.run(main())


def serve_stdlib(host, port):
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            paths = of_target(self.path)
            is_endpoint = paths.get("unquote") == ENDPOINT or paths.get("unquote", "").startswith(ENDPOINT + "/")
            body = answer("endpoint" if is_endpoint else "other", path=self.path, **paths)
            if self.path == "/fields":
                body = of_fields(self.headers.items())
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_DELETE = do_GET

        def log_message(self, *_):
            pass

    ThreadingHTTPServer((host, port), Handler).serve_forever()


def serve_wsgiref(host, port):
    from wsgiref.simple_server import WSGIRequestHandler, make_server

    WSGIRequestHandler.log_message = lambda *_: None
    make_server(host, port, wsgi).serve_forever()


SERVE = {
    "stdlib": serve_stdlib,
    "wsgiref": serve_wsgiref,
    "flask": serve_werkzeug,
    "gunicorn": lambda host, port: serve_gunicorn(lambda: wsgi, host, port),
    "django": lambda host, port: serve_gunicorn(django, host, port),
    "starlette": serve_starlette,
    "aiohttp": serve_aiohttp,
    "tornado": serve_tornado,
}

if __name__ == "__main__":
    _, kind, host, port = sys.argv
    SERVE[kind](host, int(port))
