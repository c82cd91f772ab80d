// What the arangojs scripts share: finding and killing the leader's process, and an application's own patience.
"use strict";

const http = require("http");

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** One GET, without any driver. */
function get(url) {
  return new Promise((resolve, reject) => {
    const request = http.get(url, (response) => {
      let body = "";
      response.on("data", (part) => (body += part));
      response.on("end", () => resolve({ status: response.statusCode, body }));
    });
    request.setTimeout(2000, () => request.destroy(new Error("timeout")));
    request.on("error", reject);
  });
}

/** The URL of the server that serves, as a load balancer would find it. */
async function findLeader(urls) {
  for (const deadline = Date.now() + 30000; Date.now() < deadline; await sleep(20)) {
    for (const url of urls) {
      const answer = await get(url + "/_admin/server/availability").catch(() => null);
      if (answer && answer.status === 200) return url;
    }
  }
  throw new Error("no leader within 30 s");
}

/** `kill -9` of the process that listens on the port of `url`, as the starter knows it. */
async function kill(starter, url) {
  const port = Number(new URL(url).port);
  const { servers } = JSON.parse((await get(starter + "/process")).body);
  process.kill(servers.find((server) => server.port === port).pid, "SIGKILL");
}

/** Repeats what failed while a failover may be going on, as an application must; duplicates are for `attempt` to see. */
async function patiently(attempt) {
  for (const deadline = Date.now() + 30000; ; await sleep(50)) {
    try {
      return await attempt();
    } catch (error) {
      if (Date.now() > deadline) throw error;
    }
  }
}

module.exports = { findLeader, get, kill, patiently, sleep };
