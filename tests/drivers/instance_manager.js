// arangodb-instance-manager, an outside harness, with this program as the `arangod` that it finds in PATH.
// Usage: node instance_manager.js AGENTS SERVERS FAULT...    (FAULT: kill, restart, pause, agency)
//
// The harness takes the machine's first address that is not loopback; told that there is none, it takes 127.0.0.1, so
// that all traffic stays on this machine.
"use strict";

const os = require("os");
os.networkInterfaces = () => ({});

const { InstanceManager, endpointToUrl } = require("arangodb-instance-manager");
const { Database } = require("arangojs");

const DOCUMENTS = 25000;
const COLLECTION = "resilience";

const [agents, servers, ...faults] = process.argv.slice(2);

const databaseOf = (instance) => new Database({ url: endpointToUrl(instance.endpoint) });

async function insertAll(leader) {
  const collection = databaseOf(leader).collection(COLLECTION);
  await collection.create();
  for (let from = 0; from < DOCUMENTS; from += 5000) {
    const documents = Array.from({ length: 5000 }, (_, i) => ({ _key: String(from + i), value: from + i }));
    const result = await collection.import(documents);
    if (result.created !== 5000) throw new Error("import: " + JSON.stringify(result));
  }
}

/** Exactly the documents 0..n-1. */
async function checkAll(leader) {
  const query = { collection: COLLECTION, batchSize: DOCUMENTS * 2 };
  const { parsedBody: body } = await databaseOf(leader).route("/_api/simple/all").put(query);
  const values = body.result.map((document) => document.value).sort((a, b) => a - b);
  if (values.length !== DOCUMENTS || values.some((value, index) => value !== index)) {
    throw new Error(`the new leader has ${values.length} documents, not ${DOCUMENTS}`);
  }
}

async function main() {
  const manager = new InstanceManager("1");
  try {
    await manager.startAgency({ agencySize: Number(agents) });
    await manager.startSingleServer("single", Number(servers));
    await manager.waitForAllInstances();
    let uuid = await manager.asyncReplicationLeaderSelected();
    let leader = await manager.asyncReplicationLeaderInstance();
    await insertAll(leader);
    for (const fault of faults) {
      if (!(await manager.asyncReplicationTicksInSync(60))) throw new Error("followers are not in sync");
      const old = leader;
      let agent = null;
      if (fault === "pause") manager.sigstop(old);
      else await manager.kill(old);
      if (fault === "agency") {
        // Together with the agent that leads the agency.
        const config = await Promise.all(manager.agents().map((a) => InstanceManager.rpAgency({
          uri: endpointToUrl(a.endpoint) + "/_api/agency/config", json: true })));
        agent = manager.agents().find((_, i) => config[i].leaderId === config[i].configuration.id);
        await manager.kill(agent);
      }
      const started = Date.now();
      uuid = await manager.asyncReplicationLeaderSelected(uuid);
      leader = await manager.asyncReplicationLeaderInstance();
      console.log(`${fault}: ${old.name} -> ${leader.name} after ${Date.now() - started} ms`);
      await checkAll(leader);
      if (agent) await manager.restart(agent);
      if (fault === "pause") manager.sigcontinue(old);
      if (fault === "restart" || fault === "agency") await manager.restart(old);
      if (!(await manager.asyncReplicationTicksInSync(60))) throw new Error("followers are not in sync afterwards");
    }
    for (const instance of manager.singleServers().filter((instance) => instance.status === "RUNNING")) {
      const { parsedBody: role } = await databaseOf(instance).route("/_admin/server/role").get();
      if (role.mode !== "resilient") throw new Error("mode " + role.mode);
    }
  } catch (error) {
    for (const instance of manager.instances) {
      if (instance.status === "RUNNING") instance.process.kill("SIGKILL");
    }
    throw error;
  }
  await manager.shutdownCluster();
  await manager.cleanup();
  console.log("done");
}

main().then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
