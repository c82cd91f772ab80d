"""What the scripts in this folder share: how they tell what they did, and an application's own patience.

A script is started with the URLs of all servers, and works until its standard input ends. It prints a JSON object a
line: what it is; each operation that its program acknowledged, with what must be there from then on; and what failed
and had to be repeated. Who reads that kills leaders meanwhile, and holds the lines against the data in the end.

A call that fails is repeated until it succeeds. An answer that is not what it should be ends the script, unless a call
has failed in the same unit of work before: then what the unit had written may be lost, and the unit is abandoned.
"""

import json
import os
import sys
import threading
import time
import urllib.request

PATIENCE_S = 30
NOT_FOUND, UNIQUE = "ERR 1202]", "ERR 1210]"


class Abandoned(Exception):
    """What this unit had written is not there any more."""


class Work:
    def __init__(self, program, version):
        self.servers = sys.argv[1:]
        self.connect = lambda: None
        # What a program prints of its own accord is none of the lines.
        self._lines = os.fdopen(os.dup(sys.stdout.fileno()), "w")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        self._disturbed = False
        self._ended = threading.Event()
        threading.Thread(target=self._wait_for_end, daemon=True).start()
        self._say(program=program, version=version)

    def _wait_for_end(self):
        sys.stdin.read()
        self._ended.set()

    def _say(self, **what):
        print(json.dumps(what), file=self._lines, flush=True)

    def _say_failed(self, kind, error):
        self._say(failed=kind, why=f"{type(error).__name__}: {error}"[:300])

    def leader(self):
        """The URL of the server that serves, as a load balancer would find it."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for url in self.servers:
                try:
                    with urllib.request.urlopen(f"{url}/_admin/server/availability", timeout=2):
                        return url
                except OSError:
                    pass
            time.sleep(0.02)
        raise RuntimeError(f"no leader within {PATIENCE_S} s")

    def python_arango(self, database):
        """The leader's database for programs that are built on python-arango, whose own patience would only delay."""
        from arango import ArangoClient
        from arango.http import DefaultHTTPClient

        client = ArangoClient(hosts=self.leader(), http_client=DefaultHTTPClient(retry_attempts=0))
        return client.db(database, username="root", password="")

    def write(self, kind, action, *writes):
        """An operation that is acknowledged by returning; then all of `writes` (see `wrote`, `removed`) holds."""
        result = self._patiently(kind, action, writes)
        self._say(did=kind, wrote=writes)
        return result

    def read(self, kind, action, expected):
        """An operation that must give exactly this."""
        found = self._patiently(kind, action, ())
        if found != expected:
            what = f"{kind}: {found!r} instead of {expected!r}"
            raise Abandoned(what) if self._disturbed else AssertionError(what)
        self._say(did=kind, wrote=())

    def _patiently(self, kind, action, writes):
        deadline = time.monotonic() + PATIENCE_S
        repeated = False
        while True:
            try:
                return action()
            except Exception as error:
                if repeated and UNIQUE in str(error):
                    # An attempt without an answer had come through.
                    return None
                self._say_failed(kind, error)
                if self._disturbed and NOT_FOUND in str(error):
                    self._say(unsure=writes)
                    raise Abandoned(str(error)) from error
                if time.monotonic() > deadline:
                    raise
            repeated = self._disturbed = True
            time.sleep(0.02)
            try:
                self.connect()
            except Exception as error:
                self._say_failed("connect", error)

    def units(self, unit):
        """Does `unit(number)` with numbers from 0 on until it is time to end."""
        number = 0
        while not self._ended.is_set():
            self._disturbed = False
            try:
                unit(number)
            except Abandoned as error:
                self._say(abandoned=str(error)[:300])
            number += 1


def wrote(database, collection, example, **has):
    """The document with the attributes of `example` has these, too."""
    return {"database": database, "collection": collection, "example": example, "has": has}


def removed(database, collection, example):
    return {"database": database, "collection": collection, "example": example, "has": None}
