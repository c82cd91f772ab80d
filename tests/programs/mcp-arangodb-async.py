"""mcp-arangodb-async: a language model's tools for ArangoDB, called over stdio as its host would, and the CLI `maa`.

Its configuration names each server of the deployment as a database of its own. It does not follow a follower's 503:
after a failure the session's focus is set to the leader (`arango_set_focused_database`). `arango_shortest_path` is left
out: its query names two variables and returns one row for each vertex, of which the tool shows the first, whatever the
server. So are backups to files, which only read.
"""

import importlib.metadata
import json
import os
import subprocess
import sys

import anyio
from anyio.from_thread import start_blocking_portal
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

from work import Work, removed, wrote

DATABASE = "library"
MAA = os.path.join(os.path.dirname(sys.executable), "maa")
CONFIGURATION = os.path.join(os.environ["SCRATCH"], "databases.yaml")

work = Work("mcp-arangodb-async", importlib.metadata.version("mcp-arangodb-async"))


def maa(*arguments, **more):
    passwords = {"ARANGO_ROOT_PASSWORD": "any", "ARANGO_PASSWORD": "", "ARANGO_URL": work.leader(), **more}
    done = subprocess.run([MAA, *arguments], env={**os.environ, **passwords}, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"maa {arguments}: {done.stdout}{done.stderr}")
    return done.stdout


class Host:
    """What starts the server and calls its tools."""

    def __init__(self, portal):
        self.portal = portal
        self.ended = portal.call(anyio.Event)
        # Opened and closed by one task; anyio insists on that.
        self.served, self.session = portal.start_task(self.serve)

    async def serve(self, *, task_status):
        parameters = StdioServerParameters(
            command=MAA,
            args=["server", "--config-file", CONFIGURATION],
            env={**os.environ, "ARANGO_PASSWORD": "", "LOG_LEVEL": "CRITICAL"},
        )
        async with stdio_client(parameters) as pipes, ClientSession(*pipes) as session:
            await session.initialize()
            task_status.started(session)
            await self.ended.wait()

    def close(self):
        self.portal.call(self.ended.set)
        self.served.result()

    def call(self, tool, **arguments):
        answer = self.portal.call(self.session.call_tool, "arango_" + tool, arguments)
        result = json.loads(answer.content[0].text)
        if isinstance(result, dict) and (result.get("error") or result.get("errors")):
            raise RuntimeError(str(result.get("error") or result["errors"]))
        return result

    def connect(self):
        self.call("set_focused_database", database=f"server{work.servers.index(work.leader())}")

    def create(self):
        self.call("create_collection", name="authors")
        self.call("create_collection", name="books")
        definition = {"edge_collection": "wrote", "from_collections": ["authors"], "to_collections": ["books"]}
        self.call("create_graph", name="authorship", edge_definitions=[definition])
        self.call("create_index", collection="books", type="persistent", fields=["author", "year"], name="by_author")
        indexes = [index["type"] for index in self.call("list_indexes", collection="books")]
        assert indexes == ["primary", "persistent"], indexes
        assert {"authors", "books", "wrote"} <= set(self.call("list_collections"))
        assert [graph["name"] for graph in self.call("list_graphs")] == ["authorship"]
        # Without several plans the driver gives one, in which the tool finds none.
        explained = self.call("explain_query", query="FOR b IN books FILTER b.author == @a RETURN b", bind_vars={"a": "1"})
        assert explained["warnings"] == [], explained

    def author(self, number):
        key, call = str(number), self.call
        author = {"_key": key, "name": f"Author {key}"}
        insert = lambda: call("insert", collection="authors", document=author)
        work.write("insert", insert, wrote(DATABASE, "authors", author))
        books = [{"_key": f"{key}-{n}", "author": key, "year": 1900 + n, "title": f"Volume {n}"} for n in range(4)]
        insert = lambda: call("bulk_insert", collection="books", documents=books)
        inserted = (wrote(DATABASE, "books", {"_key": book["_key"]}, title=book["title"]) for book in books)
        work.write("bulk_insert", insert, *inserted)
        for n in range(2):
            attributes = {"_key": f"{key}-{n}", "role": "writer"}
            ends = {"_from": f"authors/{key}", "_to": f"books/{key}-{n}"}
            add = lambda: call(
                "add_edge", collection="wrote", from_id=ends["_from"], to_id=ends["_to"], attributes=attributes
            )
            work.write("add_edge", add, wrote(DATABASE, "wrote", {"_key": f"{key}-{n}"}, role="writer", **ends))

        titles = "FOR b IN books FILTER b.author == @author AND b.year >= 1901 SORT b.year DESC RETURN b.title"
        query = lambda: call("query", query=titles, bind_vars={"author": key})
        work.read("query", query, ["Volume 3", "Volume 2", "Volume 1"])
        by = [{"field": "author", "op": "==", "value": key}, {"field": "title", "op": "LIKE", "value": "volume%"}]
        options = {"sort": [{"field": "year", "direction": "DESC"}], "limit": 1, "return_fields": ["year"]}
        build = lambda: call("query_builder", collection="books", filters=by, **options)
        work.read("query_builder", build, [{"year": 1903}])
        traverse = lambda: sorted(
            step["vertex"]["title"] for step in call("traverse", start_vertex=f"authors/{key}", graph="authorship")
        )
        work.read("traverse", traverse, ["Volume 0", "Volume 1"])

        update = lambda: call("update", collection="books", key=f"{key}-0", update={"lent": True})
        work.write("update", update, wrote(DATABASE, "books", {"_key": f"{key}-0"}, lent=True, title="Volume 0"))
        updates = [{"key": f"{key}-{n}", "update": {"shelf": n}} for n in (1, 2)]

        def bulk_update():
            call("bulk_update", collection="books", updates=updates)
            # The tool counts those that it was refused as updated.
            there = "FOR b IN books FILTER b._key IN @keys AND b.shelf != null RETURN 1"
            if call("query", query=there, bind_vars={"keys": [update["key"] for update in updates]}) != [1, 1]:
                raise RuntimeError("[ERR 1202] not all were updated")

        updated = (wrote(DATABASE, "books", {"_key": f"{key}-{n}"}, shelf=n, title=f"Volume {n}") for n in (1, 2))
        work.write("bulk_update", bulk_update, *updated)
        remove = lambda: call("remove", collection="books", key=f"{key}-3")
        work.write("remove", remove, removed(DATABASE, "books", {"_key": f"{key}-3"}))
        count = "FOR b IN books FILTER b.author == @author COLLECT WITH COUNT INTO n RETURN n"
        work.read("query", lambda: call("query", query=count, bind_vars={"author": key}), [3])
        if number % 20 == 0:
            checked = lambda: maa("db", "list", "--json").count(DATABASE) > 0
            work.read("maa db list", checked, True)


with start_blocking_portal() as portal:
    maa("db", "add", DATABASE, "--yes")
    for index, url in enumerate(work.servers):
        name = ["--database", DATABASE, "--username", "root", "--password-env", "ARANGO_PASSWORD"]
        maa("db", "config", "add", f"server{index}", "--url", url, *name, "--config-file", CONFIGURATION, "--yes")
    assert DATABASE in maa("db", "list", "--json")
    health = json.loads(maa("health", ARANGO_DB=DATABASE, ARANGO_USERNAME="root"))
    assert health["status"] == "healthy", health
    host = Host(portal)
    host.connect()
    host.create()
    work.connect = host.connect
    work.units(host.author)
    host.close()
