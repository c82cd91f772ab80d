"""nest-arango: migrations in TypeScript that its command applies and takes back.

It is built on arangojs, which follows a follower's 503 by itself; where nobody listens any more it is given the
leader's address anew. The command says what went wrong and exits with 0 all the same: what it says decides.
"""

import json
import os
import subprocess
import urllib.request

from work import Work, removed, wrote

DATABASE = "staff"
MODULES = os.path.join(os.environ["INSTALLED"], "node_modules")
COMMAND = os.path.join(MODULES, "nest-arango", "bin", "cli.js")
PROJECT = os.path.join(os.environ["SCRATCH"], "nest")
MIGRATIONS = os.path.join(PROJECT, "migrations")
CONFIGURATION = """
export default {
  database: { url: process.env.ARANGO__URL, databaseName: "staff", auth: { username: "root", password: "" } },
  migrationsCollection: "Migrations",
  cli: { migrationsDir: "migrations" },
};
"""
MIGRATION = """
import { Migration, Database } from "nest-arango";
import { aql } from "arangojs";

export class %(name)s implements Migration {
  async up(database: Database): Promise<void> {
    %(up)s
  }

  async down(database: Database): Promise<void> {
    %(down)s
  }
}
"""
CREATE = """
    await database.createCollection("Users");
    await database.createEdgeCollection("Knows");
    await database.collection("Users").ensureIndex({ type: "persistent", fields: ["email"], unique: true });
    await database.createGraph("Team", [{ collection: "Knows", from: ["Users"], to: ["Users"] }]);
"""
DROP = """
    await database.graph("Team").drop(true);
"""

with open(os.path.join(MODULES, "nest-arango", "package.json")) as package:
    work = Work("nest-arango", json.load(package)["version"])


class Operator:
    def connect(self):
        self.url = work.leader()

    def nest_arango(self, option, wanted):
        environment = {**os.environ, "PWD": PROJECT, "ARANGO__URL": self.url, "TS_NODE_TRANSPILE_ONLY": "true"}
        words = ["node", COMMAND, option]
        done = subprocess.run(words, cwd=PROJECT, env=environment, capture_output=True, text=True)
        if wanted not in done.stdout:
            raise RuntimeError(f"nest-arango {option}: {done.stdout[-250:]}{done.stderr[-250:]}")
        return done.stdout

    def ask(self, method, path, **body):
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def is_applied(self, file):
        """An attempt without an answer may have come through; the command would not say so."""
        query = "FOR m IN Migrations FILTER m.name == @name RETURN 1"
        return self.ask("POST", f"/_db/{DATABASE}/_api/cursor", query=query, bindVars={"name": file})["result"] == [1]

    def new_migration(self, up, down):
        before = set(os.listdir(MIGRATIONS))
        self.nest_arango("--create", "created.")
        [file] = set(os.listdir(MIGRATIONS)) - before
        with open(os.path.join(MIGRATIONS, file), "w") as migration:
            migration.write(MIGRATION % {"name": file.removesuffix(".ts"), "up": up, "down": down})
        return file

    def create(self):
        os.makedirs(MIGRATIONS)
        os.symlink(MODULES, os.path.join(PROJECT, "node_modules"))
        with open(os.path.join(PROJECT, "nest-arango.config.ts"), "w") as configuration:
            configuration.write(CONFIGURATION)
        self.connect()
        self.ask("POST", "/_api/database", name=DATABASE)
        self.new_migration(CREATE, DROP)
        # There and back and there again.
        self.nest_arango("--run", "done.")
        self.nest_arango("--revert", "reverted.")
        self.nest_arango("--run", "done.")

    def user(self, number):
        key = str(number)
        user = json.dumps({"_key": key, "email": f"{key}@example.org"})
        knows = json.dumps({"_key": key, "_from": f"Users/{key}", "_to": "Users/0"})
        # A migration that was cut off half-way is run again: it must bear that.
        up = f"""
    await database.collection("Users").save({user}, {{ overwriteMode: "replace" }});
    await database.collection("Knows").save({knows}, {{ overwriteMode: "replace" }});
    const found = await database.query(aql`FOR v IN 1..1 OUTBOUND ${{"Users/{key}"}} GRAPH "Team" RETURN v._key`);
    console.log("knows " + JSON.stringify(await found.all()));
"""
        down = f"""
    for (const name of ["Knows", "Users"]) {{
      await database.query(aql`REMOVE ${{"{key}"}} IN ${{database.collection(name)}} OPTIONS {{ ignoreErrors: true }}`);
    }}
"""
        file = self.new_migration(up, down)
        made = [
            wrote(DATABASE, "Users", {"_key": key}, email=f"{key}@example.org"),
            wrote(DATABASE, "Knows", {"_key": key}, _from=f"Users/{key}", _to="Users/0"),
        ]
        run = lambda: self.is_applied(file) or self.nest_arango("--run", f"{file}\x1b[0m done.")
        work.write("run", run, *made, wrote(DATABASE, "Migrations", {"name": file}))
        if number % 3 == 2:
            gone = [removed(DATABASE, name, {"_key": key}) for name in ("Users", "Knows")]
            revert = lambda: self.is_applied(file) and self.nest_arango("--revert", f"{file}\x1b[0m reverted.")
            work.write("revert", revert, *gone, removed(DATABASE, "Migrations", {"name": file}))
            os.remove(os.path.join(MIGRATIONS, file))


operator = Operator()
operator.create()
work.connect = operator.connect
work.units(operator.user)
