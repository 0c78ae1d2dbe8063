// Clients of Node: `calls.js CLIENT BASE CA USER PASSWORD` mints, calls, uploads and revokes, and prints a line a step.
"use strict";
const fs = require("node:fs");
const http = require("node:http");
const https = require("node:https");
const http2 = require("node:http2");

const [client, base, caFile, user, password] = process.argv.slice(2);
const ca = fs.readFileSync(caFile);
const endpoint = "/ds-api/user-token";
const body = Buffer.from("0123456789".repeat(10_000));
const small = Buffer.from('{"name":"a"}');
const basic = "Basic " + Buffer.from(`${user}:${password}`).toString("base64");

// fetch has the certificate by NODE_EXTRA_CA_CERTS.
async function byFetch(method, target, fields, content) {
    const answer = await fetch(base + target, { method, headers: fields, body: content });
    return { status: answer.status, text: await answer.text(), challenge: answer.headers.get("www-authenticate") };
}

const secure = base.startsWith("https");
const agent = new (secure ? https : http).Agent({ keepAlive: true, ca });

// Waits for 100 before it sends a long body.
function byHttp(method, target, fields, content) {
    return new Promise((resolve, reject) => {
        const waits = content === body;
        const headers = waits ? { ...fields, Expect: "100-continue", "Content-Length": content.length } : fields;
        const request = (secure ? https : http).request(base + target, { method, headers, agent });
        request.on("error", reject);
        request.on("continue", () => request.end(content));
        request.on("response", (answer) => {
            let text = "";
            answer.on("error", reject);
            answer.on("data", (chunk) => (text += chunk));
            answer.on("end", () => resolve({ status: answer.statusCode, text, challenge: answer.headers["www-authenticate"] }));
        });
        if (waits) request.flushHeaders();
        else request.end(content);
    });
}

const session = client === "http2" ? http2.connect(base, { ca }) : undefined;

function byHttp2(method, target, fields, content) {
    return new Promise((resolve, reject) => {
        const stream = session.request({ ":method": method, ":path": target, ...fields }, { endStream: !content });
        let head;
        let text = "";
        stream.on("error", reject);
        stream.on("response", (headers) => (head = headers));
        stream.on("data", (chunk) => (text += chunk));
        stream.on("end", () => resolve({ status: head[":status"], text, challenge: head["www-authenticate"] }));
        if (content) stream.end(content);
    });
}

async function steps(ask) {
    const minted = await ask("POST", endpoint, { Authorization: basic });
    console.log("mint", minted.status);
    const token = { "user-token": JSON.parse(minted.text)["user-token"] };
    for (const [step, method, target, fields, content] of [
        ["call", "GET", "/ds-api/agents?x=1", token],
        ["without", "GET", "/ds-api/agents?x=2", {}],
        ["HEAD", "HEAD", "/ds-api/small", token],
        ["POST", "POST", "/ds-api/small", token, small],
        ["PUT", "PUT", "/ds-api/small", token, small],
        ["PATCH", "PATCH", "/ds-api/small", token, small],
        ["DELETE", "DELETE", "/ds-api/small", token],
        ["upload", "PUT", "/ds-api/upload", token, body],
        ["revoke", "DELETE", endpoint, token],
        ["after", "GET", "/ds-api/agents?x=3", token],
    ]) {
        const { status, challenge } = await ask(method, target, fields, content);
        console.log(step, status, ...(challenge ? [challenge] : []));
    }
}

steps({ fetch: byFetch, http: byHttp, http2: byHttp2 }[client]).then(
    () => {
        agent.destroy();
        session?.close();
    },
    (error) => {
        console.error(error);
        process.exit(1);
    },
);
