// The broker from JavaScript with plain fetch (Node 18 or newer), over TCP.
//
//   BROKER_URL=http://127.0.0.1:8210 BROKER_TOKEN_FILE=/run/broker/search/client-token \
//       node fetch.mjs search-api 'https://api.example.com/search?q=leases'
//
// Copy the first two functions into your server: a value is kept until its use_until, a 401 of
// the upstream is reported, and the call is made once more with the newer version.

import { readFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";

const held = new Map(); // name -> { handout, until }; never leaves this process

/** The current hand-out of a credential: { version, data: { field: secret }, use, … }. */
export async function get(name) {
  const kept = held.get(name);
  if (kept && performance.now() < kept.until) return kept.handout;
  const asked = performance.now(); // counts from before the request, on a clock nobody sets
  const answer = await broker(`/v1/credentials/${encodeURIComponent(name)}`);
  const handout = await answer.json();
  if (!answer.ok) throw new Error(`${name}: ${handout.detail} ${handout.remedy}`);
  const usable = Date.parse(handout.use_until) - Date.parse(handout.issued_at);
  held.set(name, { handout, until: asked + usable });
  return handout;
}

/** fetch(url) with the key of a credential that is used in a header. */
export async function fetchWithKey(name, url, options = {}) {
  const handout = await get(name);
  const answer = await send(handout, url, options);
  if (answer.status !== 401) return answer;
  const report = await broker(`/v1/credentials/${encodeURIComponent(name)}/reports`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ version: handout.version, status: 401 }),
  });
  if (!report.ok) return answer; // 409: nothing newer is known
  held.delete(name);
  return send(await get(name), url, options);
}

async function send({ name, use, data }, url, options) {
  if (!use || use.in !== "header" || use.scheme) throw new Error(`${name} is not a plain header`);
  if (!use.origins.includes(new URL(url).origin)) throw new Error(`${name} is not for ${url}`);
  const headers = new Headers(options.headers);
  headers.set(use.name, (use.prefix ?? "") + data[use.field ?? Object.keys(data)[0]]);
  // fetch would carry the header along to whatever host a redirect names.
  return fetch(url, { ...options, headers, redirect: "error" });
}

async function broker(path, options = {}) {
  const { BROKER_URL, BROKER_TOKEN_FILE } = process.env;
  // Read each time: the broker may have replaced it, and a value is asked for only now and then.
  const token = (await readFile(BROKER_TOKEN_FILE, "ascii")).trim();
  const headers = { ...options.headers, Authorization: `Bearer ${token}` };
  return fetch(BROKER_URL + path, { ...options, headers, redirect: "error" });
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [name, url] = process.argv.slice(2);
  const answer = await fetchWithKey(name, url);
  console.log(answer.status, await answer.text());
}
