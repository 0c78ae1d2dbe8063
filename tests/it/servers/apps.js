// Servers of Node and of npm, as the tests of tests/it/servers start them, in one process.
//
// node apps.js HOST PORT..., a port for each of KINDS. Each answers with lines `read NAME VALUE`: the route that it took,
// `endpoint` or `other`, and the paths that an application can ask it for. At /fields it answers with the fields.
"use strict";

const http = require("node:http");
const path = require("node:path");
const querystring = require("node:querystring");
const url = require("node:url");

const ENDPOINT = "/ds-api/user-token";

function answer(route, paths) {
  const lines = Object.entries({ route, ...paths }).filter(([, value]) => typeof value === "string");
  return lines.map(([name, value]) => `read ${name} ${value}\n`).join("");
}

// `undefined` where the library refuses.
function maybe(read) {
  try {
    return read();
  } catch {
    return undefined;
  }
}

// What Node's own libraries make of a target.
function ofTarget(target) {
  const pathname = maybe(() => new URL(target, "http://gateway.test").pathname);
  const legacy = maybe(() => url.parse(target).pathname);
  const decoded = maybe(() => decodeURIComponent(pathname));
  return {
    pathname,
    decoded,
    legacy,
    unescaped: maybe(() => querystring.unescape(legacy)),
    normalized: maybe(() => path.posix.normalize(decoded)),
    concatenated: maybe(() => new URL("http://gateway.test" + target).pathname),
  };
}

function ofFields(request) {
  return Object.entries(request.headers).map(([name, value]) => `${name}: ${value}\n`).join("");
}

function plain() {
  return http.createServer((request, response) => {
    const paths = ofTarget(request.url);
    const isEndpoint = paths.pathname === ENDPOINT || paths.pathname?.startsWith(ENDPOINT + "/");
    const body = request.url === "/fields" ? ofFields(request) : answer(isEndpoint ? "endpoint" : "other", paths);
    response.end(body);
  });
}

function express(version) {
  const app = require(version)();
  const respond = (route) => (request, response) => {
    response.type("text/plain").send(answer(route, { path: request.path, decoded: maybe(() => decodeURIComponent(request.path)) }));
  };
  app.get("/fields", (request, response) => response.type("text/plain").send(ofFields(request)));
  app.all(["/ds-api/user-token", "/ds-api/user-token/:organization"], respond("endpoint"));
  app.use(respond("other"));
  return http.createServer(app);
}

function fastify() {
  let server;
  const app = require("fastify")({
    caseSensitive: false,
    ignoreDuplicateSlashes: true,
    ignoreTrailingSlash: true,
    serverFactory: (handler) => (server = http.createServer(handler)),
  });
  const respond = (route) => (request, reply) => reply.code(200).type("text/plain").send(answer(route, ofTarget(request.url)));
  app.get("/fields", (request, reply) => reply.type("text/plain").send(ofFields(request)));
  app.all(ENDPOINT, respond("endpoint"));
  app.all(ENDPOINT + "/:organization", respond("endpoint"));
  app.setNotFoundHandler(respond("other"));
  return app.ready().then(() => server);
}

function koa() {
  const Koa = require("koa");
  const Router = require("@koa/router");
  const app = new Koa();
  app.silent = true;
  const router = new Router();
  const respond = (route) => (context) => {
    context.body = answer(route, { path: context.path, decoded: maybe(() => decodeURIComponent(context.path)) });
  };
  router.get("/fields", (context) => (context.body = ofFields(context.req)));
  router.all(ENDPOINT, respond("endpoint"));
  router.all(ENDPOINT + "/:organization", respond("endpoint"));
  app.use(router.routes());
  app.use(respond("other"));
  return http.createServer(app.callback());
}

const KINDS = [plain, () => express("express4"), () => express("express"), fastify, koa];

async function main([host, ...ports]) {
  for (const [at, kind] of KINDS.entries()) {
    const server = await kind();
    server.keepAliveTimeout = 60_000;
    server.listen(Number(ports[at]), host);
  }
}

main(process.argv.slice(2));
