"""nx-arangodb: NetworkX graphs that live in the database; algorithms read them through phenolrs, a client in Rust.

It is built on python-arango, which does not follow a follower's 503: after a failure it is given the leader's address
anew. Nothing that it has is left out. phenolrs asks `/_admin/support-info` for the kind of deployment, does not know
`active-failover`, says so, and goes on.
"""

import importlib.metadata

import networkx as nx
import nx_arangodb as nxadb

from work import Work, removed, wrote

DATABASE = "maps"
TOWNS, ROADS = "Roads_node", "Roads_node_to_Roads_node"

work = Work("nx-arangodb", importlib.metadata.version("nx-arangodb"))


class Map:
    def connect(self):
        self.db = work.python_arango(DATABASE)
        self.roads = self.as_stored()

    def create(self):
        work.python_arango("_system").create_database(DATABASE)
        self.connect()

    def as_stored(self, name="Roads"):
        """Without anything that the program remembers of what it wrote."""
        return nxadb.DiGraph(name=name, db=self.db)

    def region(self, number):
        names = [f"{number}-{letter}" for letter in "abc"]
        a, b, c = (f"{TOWNS}/{name}" for name in names)
        for name in names:
            add = lambda: self.roads.add_node(name, inhabitants=number)
            work.write("add_node", add, wrote(DATABASE, TOWNS, {"_key": name}, inhabitants=number))
        for start, end in ((a, b), (b, c)):
            add = lambda: self.roads.add_edge(start, end, length=number)
            work.write("add_edge", add, wrote(DATABASE, ROADS, {"_from": start, "_to": end}, length=number))

        def grow():
            self.roads.nodes[a]["inhabitants"] = number + 1000

        def widen():
            self.roads[a][b]["lanes"] = 2

        work.write("set a node's value", grow, wrote(DATABASE, TOWNS, {"_key": names[0]}, inhabitants=number + 1000))
        work.write("set an edge's value", widen, wrote(DATABASE, ROADS, {"_from": a, "_to": b}, lanes=2, length=number))

        def look():
            stored = self.as_stored()
            return stored.nodes[a]["inhabitants"], stored[a][b]["lanes"], stored.has_edge(c, a)

        work.read("nodes and edges", look, (number + 1000, 2, False))
        walk = f"FOR v IN 1..2 OUTBOUND '{a}' GRAPH Roads RETURN v._key"
        work.read("query", lambda: list(self.roads.query(walk)), names[1:])
        if number % 10 == 0:
            route = lambda: nx.shortest_path(self.as_stored(), a, c)
            work.read("shortest_path", route, [a, b, c])
            reached = lambda: set(nx.descendants(self.as_stored(), a))
            work.read("descendants", reached, {b, c})
        if number % 3 == 0:
            gone = [removed(DATABASE, TOWNS, {"_key": names[2]}), removed(DATABASE, ROADS, {"_from": b, "_to": c})]
            work.write("remove_node", lambda: self.as_stored().remove_node(c), *gone)
            self.roads = self.as_stored()
            work.read("has_node", lambda: self.as_stored().has_node(c), False)
        if number % 25 == 0:
            self.load(f"Ring{number}")

    def load(self, name):
        """A whole graph at once."""
        ring = nx.cycle_graph(40)
        collection = f"{name}_node"
        nodes = [wrote(DATABASE, collection, {"_key": str(node)}) for node in ring.nodes]
        edges = [
            wrote(DATABASE, f"{collection}_to_{collection}", {"_from": f"{collection}/{u}", "_to": f"{collection}/{v}"})
            for u, v in ring.edges
        ]

        def store():
            nxadb.Graph(incoming_graph_data=ring, name=name, db=self.db, overwrite_graph=True)

        work.write("store a graph", store, *nodes, *edges)

        def ranks():
            stored = nxadb.Graph(name=name, db=self.db)
            return len(nx.pagerank(stored)), stored.number_of_edges()

        work.read("pagerank", ranks, (40, 40))


roads = Map()
roads.create()
work.connect = roads.connect
work.units(roads.region)
