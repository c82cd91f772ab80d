"""python-arango against a deployment whose leader is killed in mid-write.

Usage: python_arango.py STARTER_URL SERVER_URL...

The driver does not follow the 503 of a follower: its users list all hosts and try the next one on error 1496, and so
does this script. Prints one JSON line: the keys that were acknowledged and are not there at the end.
"""

import json
import os
import signal
import sys
import time

import requests
from arango import ArangoClient
from arango.exceptions import ArangoServerError, DocumentInsertError, ServerConnectionError

NOT_A_LEADER, LEADERSHIP_OPEN, UNIQUE = 1496, 1495, 1210
DOCUMENTS = 10_000

starter, hosts = sys.argv[1], sys.argv[2:]


class Application:
    """A user of the driver with what the driver leaves to its users: whom to talk to when the leader changes."""

    def __init__(self):
        self.hosts = list(hosts)
        self.connect()

    def connect(self):
        self.client = ArangoClient(hosts=self.hosts)

    def call(self, action, database="_system"):
        deadline = time.monotonic() + 30
        while True:
            try:
                return action(self.client.db(database, username="root", password=""))
            except (ArangoServerError, ServerConnectionError, requests.RequestException, ConnectionError) as error:
                code = getattr(error, "error_code", None)
                passing = code in (NOT_A_LEADER, LEADERSHIP_OPEN, 503) or not isinstance(error, ArangoServerError)
                if not passing or time.monotonic() > deadline:
                    raise
                self.hosts.append(self.hosts.pop(0))
                self.connect()
                time.sleep(0.02)


def leader():
    for host in hosts:
        try:
            if requests.get(f"{host}/_admin/server/availability", timeout=2).status_code == 200:
                return host
        except requests.RequestException:
            pass
    return None


def kill_leader():
    host = leader()
    port = int(host.rsplit(":", 1)[1])
    servers = requests.get(f"{starter}/process", timeout=5).json()["servers"]
    os.kill(next(server["pid"] for server in servers if server["port"] == port), signal.SIGKILL)
    return host


def insert(db, number):
    try:
        db.collection("orders").insert({"_key": str(number), "value": number}, silent=True)
    except DocumentInsertError as error:
        # An attempt without an answer had come through.
        if error.error_code != UNIQUE:
            raise


def define(db):
    db.create_analyzer("words", "text", {"locale": "en"})
    db.create_view("found", "arangosearch", {"links": {"orders": {"analyzers": ["words"]}}})
    db.aql.create_function("shop::tax", "function (x) { return x * 1.19; }")


def check_definitions(db):
    """They are there after the failover as before."""
    assert "shop::words" in [analyzer["name"] for analyzer in db.analyzers()]
    assert list(db.view("found")["links"]) == ["orders"]
    assert [function["name"] for function in db.aql.functions()] == ["shop::tax"]


def main():
    application = Application()
    application.call(lambda db: db.create_database("shop"))
    application.call(lambda db: db.create_collection("orders"), "shop")
    application.call(define, "shop")
    killed = None
    for number in range(DOCUMENTS):
        application.call(lambda db: insert(db, number), "shop")
        if number == DOCUMENTS // 2:
            killed = kill_leader()

    keys = [str(number) for number in range(DOCUMENTS)]
    found = application.call(lambda db: db.collection("orders").get_many(keys), "shop")
    there = {document["_key"] for document in found}
    count = application.call(lambda db: db.collection("orders").count(), "shop")
    dirty = application.call(lambda db: db.collection("orders").get("0", allow_dirty_read=True), "shop")
    assert dirty["value"] == 0, dirty
    application.call(check_definitions, "shop")
    missing = [key for key in keys if key not in there]
    print(json.dumps({"acknowledged": len(keys), "count": count, "missing": missing, "old": killed, "new": leader()}))


main()
