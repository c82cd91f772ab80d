"""aragog_cli: migrations of the schema and of data, as files that the command `aragog` applies and takes back.

It follows no 503: each command is given the leader's address. A migration is no transaction, and one that was cut off
half-way is applied again: those that are made while leaders are killed bear that (`UPSERT`). Built by a compiler of
today, `describe` and `describe-indexes` crash in the library that draws their tables, whatever the server; what the
former says before that, the schema's version, is used.
"""

import json
import os
import signal
import subprocess

from work import Work, removed, wrote

DATABASE = "towns"
ARAGOG = os.path.join(os.environ["INSTALLED"], "bin", "aragog")
FOLDER = os.path.join(os.environ["SCRATCH"], "aragog")
MIGRATIONS = os.path.join(FOLDER, "migrations")

SCHEMA = {
    "up": [
        {"create_collection": {"name": "Town"}},
        {"create_edge_collection": {"name": "Road", "wait_for_sync": True}},
        {
            "create_index": {
                "collection": "Town",
                "name": "byName",
                "fields": ["name"],
                "settings": {"type": "persistent", "unique": True, "sparse": False, "deduplicate": False},
            }
        },
        {
            "create_graph": {
                "name": "Map",
                "edge_definitions": [{"collection": "Road", "from": ["Town"], "to": ["Town"]}],
            }
        },
    ],
    "down": [
        {"delete_graph": {"name": "Map"}},
        {"delete_index": {"collection": "Town", "name": "byName"}},
        {"delete_edge_collection": {"name": "Road"}},
        {"delete_collection": {"name": "Town"}},
    ],
}


def version():
    done = subprocess.run([ARAGOG, "--version"], capture_output=True, text=True, check=True)
    return done.stdout.split()[-1]


work = Work("aragog_cli", version())


class Operator:
    def connect(self):
        self.host = work.leader()

    def aragog(self, *words, may_be=0):
        options = ["--db-host", self.host, "--db-name", DATABASE, "--db-user", "root", "--db-password", ""]
        done = subprocess.run([ARAGOG, *options, "--schema-folder", FOLDER, *words], capture_output=True, text=True)
        if done.returncode != 0 and done.returncode != may_be:
            raise RuntimeError(f"aragog {words[0]}: {done.stdout[-200:]} {done.stderr}")
        return done.stdout

    def is_at(self, version):
        return f"- Database Schema version: {version}\n" in self.aragog("describe", may_be=-signal.SIGSEGV)

    def new_migration(self, name, content):
        """The number of its version."""
        self.aragog("create-migration", name)
        [file] = [file for file in os.listdir(MIGRATIONS) if file.endswith(f"_{name}.yaml")]
        with open(os.path.join(MIGRATIONS, file), "w") as migration:
            # JSON is YAML, too.
            json.dump(content, migration)
        return int(file.split("_")[0])

    def applied(self, version):
        return wrote(DATABASE, "AragogConfiguration", {"_key": "DatabaseSchema"}, version=version)

    def create(self):
        os.makedirs(FOLDER)
        self.connect()
        self.new_migration("schema", SCHEMA)
        # There and back and there again.
        self.aragog("migrate")
        self.aragog("rollback")
        self.aragog("migrate")

    def town(self, number):
        key = str(number)
        upsert = f"UPSERT {{_key: '{key}'}} INSERT {{_key: '{key}', name: 'Town {key}'}} UPDATE {{}} IN Town"
        road = f"{{_key: '{key}', _from: 'Town/{key}', _to: 'Town/0'}}"
        link = f"UPSERT {{_key: '{key}'}} INSERT {road} UPDATE {{}} IN Road"
        undo = [f"REMOVE '{key}' IN {collection} OPTIONS {{ignoreErrors: true}}" for collection in ("Road", "Town")]
        content = {"up": [{"aql": upsert}, {"aql": link}], "down": [{"aql": query} for query in undo]}
        version = self.new_migration(f"town{key}", content)
        made = [
            wrote(DATABASE, "Town", {"_key": key}, name=f"Town {key}"),
            wrote(DATABASE, "Road", {"_key": key}, _from=f"Town/{key}", _to="Town/0"),
        ]
        work.write("migrate", lambda: self.aragog("migrate"), *made, self.applied(version))
        work.read("describe", lambda: self.is_at(version), True)
        if number % 3 == 2:
            gone = [removed(DATABASE, collection, {"_key": key}) for collection in ("Town", "Road")]

            def rollback():
                # An attempt without an answer may have come through; a second one would take back another migration.
                if self.is_at(version):
                    self.aragog("rollback")

            work.write("rollback", rollback, *gone, self.applied(version - 1))
            # What was taken back is not applied again.
            [file] = [file for file in os.listdir(MIGRATIONS) if file.startswith(str(version))]
            os.remove(os.path.join(MIGRATIONS, file))
            work.read("describe", lambda: self.is_at(version - 1), True)


operator = Operator()
operator.create()
work.connect = operator.connect
work.units(operator.town)
