// arangojs against a deployment whose leader is killed in mid-write.
// Usage: node arangojs.js PACKAGE STARTER_URL SERVER_URL...
//
// The driver is given one follower and nothing else: it must find the leader, and later the new one, by the 503's
// header alone. Prints one JSON line: the keys that were acknowledged and are not there at the end.
"use strict";

const { findLeader, kill, patiently } = require("./common");

const [name, starter, ...urls] = process.argv.slice(2);
const { Database } = require(name);

const DOCUMENTS = 10000;
const WRITERS = 8;
const ERROR_UNIQUE = 1210;

async function main() {
  const leader = await findLeader(urls);
  const follower = urls.find((url) => url !== leader);
  const system = new Database({ url: follower });
  await system.createDatabase("shop");
  const db = system.database("shop");
  const collection = db.collection("orders");
  await collection.create();
  const version = await db.version();
  if (version.server !== "arango") throw new Error("who is that? " + JSON.stringify(version));

  const acknowledged = new Set();
  let next = 0;
  let killed = null;
  async function writer() {
    while (next < DOCUMENTS) {
      const key = String(next++);
      await patiently(async () => {
        try {
          await collection.save({ _key: key, value: Number(key) });
        } catch (error) {
          // An attempt without an answer had come through.
          if (error.errorNum !== ERROR_UNIQUE) throw error;
        }
      });
      acknowledged.add(key);
      if (acknowledged.size >= DOCUMENTS / 2 && killed === null) {
        killed = leader;
        await kill(starter, leader);
      }
    }
  }
  await Promise.all(Array.from({ length: WRITERS }, writer));

  const now = await findLeader(urls);
  const keys = [...acknowledged];
  const missing = [];
  for (let from = 0; from < keys.length; from += 1000) {
    const part = keys.slice(from, from + 1000);
    const found = await patiently(() => collection.documents(part));
    const there = new Set(found.filter((document) => document._key).map((document) => document._key));
    missing.push(...part.filter((key) => !there.has(key)));
  }
  const { count } = await patiently(() => collection.count());

  // Also by the list that the servers give, and with a dirty read at each of them.
  await db.acquireHostList();
  const dirty = await patiently(() => collection.document("0", { allowDirtyRead: true }));
  if (dirty.value !== 0) throw new Error("dirty read: " + JSON.stringify(dirty));
  db.close();
  system.close();
  console.log(JSON.stringify({ acknowledged: keys.length, count, missing, old: killed, new: now }));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
