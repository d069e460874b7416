// The KV of workerd behind the paths of Cloudflare's REST API. miniflare's local explorer has the API of keys and
// values; here is only what it lacks: namespaces, /metadata, and the expiration of a single value.
//
// Runs in the directory where miniflare is installed. Prints its port, and ends when its standard input does.

import { randomBytes } from "node:crypto";
import { createServer, request } from "node:http";
import { createRequire } from "node:module";
import { buffer } from "node:stream/consumers";

const { Miniflare, convertV4MiniflareOptions } = createRequire(`${process.cwd()}/`)("miniflare");

const ROOT = /^\/client\/v4\/accounts\/[^/]+\/storage\/kv\/namespaces(?:\/([^/]+)(\/.*)?)?$/;
const EXPLORER = "/cdn-cgi/local/explorer/api/storage/kv/namespaces";
const JSON_TYPE = { "content-type": "application/json" };

const miniflare = new Miniflare(
  convertV4MiniflareOptions({
    host: "127.0.0.1",
    port: 0,
    cf: false,
    logRequests: false,
    unsafeLocalExplorer: true,
    modules: true,
    script: "export default { fetch: () => new Response(null, { status: 404 }) }",
    kvNamespaces: ["KV"],
  }),
);
const explorer = new URL(EXPLORER, await miniflare.ready);

// id -> title. workerd makes a namespace when it is first used, under any id.
const titles = new Map();

class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    Object.assign(this, { status, code });
  }
}

function answer(response, status, said) {
  response.writeHead(status, JSON_TYPE);
  response.end(JSON.stringify({ success: true, errors: [], messages: [], result: null, ...said }));
}

function described(id) {
  return { id, title: titles.get(id), supports_url_encoding: true };
}

function list(query) {
  const page = Number(query.get("page") ?? 1);
  const size = Number(query.get("per_page") ?? 20);
  const shown = [...titles.keys()].slice((page - 1) * size, page * size).map(described);
  const info = { page, per_page: size, count: shown.length, total_count: titles.size };
  return { result: shown, result_info: info };
}

async function entitle(incoming, id) {
  const { title } = JSON.parse(await buffer(incoming));
  if ([...titles].some(([other, taken]) => taken === title && other !== id)) {
    throw new Refused(400, 10014, "a namespace with this account ID and title already exists");
  }
  titles.set(id, title);
  return { result: described(id) };
}

async function namespaces(incoming, id, query) {
  if (id === undefined) {
    if (incoming.method === "GET") return list(query);
    if (incoming.method === "POST") return entitle(incoming, randomBytes(16).toString("hex"));
  } else {
    if (incoming.method === "GET") return { result: described(id) };
    if (incoming.method === "PUT") return entitle(incoming, id);
    if (incoming.method === "DELETE") return { result: titles.delete(id) && {} };
  }
  throw new Refused(405, 10405, "no such method");
}

// The row of one key as the listing has it: keys come in the order of their bytes, so it is the first of its prefix.
async function row(id, key) {
  const query = new URLSearchParams({ prefix: key, limit: 10 });
  const { result } = await (await fetch(`${explorer}/${id}/keys?${query}`)).json();
  return result?.find((each) => each.name === key);
}

async function metadata(id, key) {
  const found = await row(id, key);
  if (found === undefined) throw new Refused(404, 10009, "key not found");
  return { result: found.metadata ?? null };
}

// A value that is to expire goes to the explorer as a bulk write of one pair.
async function putExpiring(incoming, id, key, query) {
  const pair = { key, base64: true };
  let value = await buffer(incoming);
  const type = incoming.headers["content-type"] ?? "";
  if (type.startsWith("multipart/form-data")) {
    const form = await new Response(value, { headers: { "content-type": type } }).formData();
    value = Buffer.from(await new Response(form.get("value")).arrayBuffer());
    if (form.has("metadata")) pair.metadata = JSON.parse(await new Response(form.get("metadata")).text());
  }
  pair.value = value.toString("base64");
  for (const name of ["expiration", "expiration_ttl"]) {
    if (query.has(name)) pair[name] = Number(query.get(name));
  }
  const body = JSON.stringify([pair]);
  const written = await fetch(`${explorer}/${id}/bulk`, { method: "PUT", headers: JSON_TYPE, body });
  const said = await written.json();
  if (!written.ok) throw new Refused(written.status, said.errors[0].code, said.errors[0].message);
  return { result: {} };
}

// To the explorer and back, as it is.
function pass(incoming, response, path, more = {}) {
  const { method, headers } = incoming;
  const onward = request(`${explorer}${path}`, { method, headers: { ...headers, host: explorer.host } }, (said) => {
    response.writeHead(said.statusCode, { ...said.headers, ...more });
    said.pipe(response);
  });
  onward.on("error", (error) => response.destroy(error));
  incoming.pipe(onward);
}

async function serve(incoming, response) {
  const { pathname, search, searchParams: query } = new URL(incoming.url, "http://localhost");
  const [matches, id, rest] = ROOT.exec(pathname) ?? [];
  if (matches === undefined) throw new Refused(404, 7000, "no such path");
  if (id !== undefined && !titles.has(id)) throw new Refused(404, 10013, "namespace not found");
  if (rest === undefined) return answer(response, 200, await namespaces(incoming, id, query));
  const [, kind, name] = rest.split("/");
  const key = name && decodeURIComponent(name);
  if (kind === "metadata") return answer(response, 200, await metadata(id, key));
  if (kind === "values" && incoming.method === "PUT" && (query.has("expiration") || query.has("expiration_ttl"))) {
    return answer(response, 200, await putExpiring(incoming, id, key, query));
  }
  const expiration = kind === "values" && incoming.method === "GET" ? (await row(id, key))?.expiration : undefined;
  pass(incoming, response, `/${id}${rest}${search}`, expiration && { expiration });
}

const server = createServer((incoming, response) => {
  serve(incoming, response).catch((error) => {
    const errors = [{ code: error.code ?? 10001, message: String(error.message) }];
    answer(response, error.status ?? 500, { success: false, errors });
  });
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));

process.stdin.resume().on("close", async () => {
  server.close();
  server.closeAllConnections();
  await miniflare.dispose();
});
