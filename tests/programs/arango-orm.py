"""arango-orm: customers, their orders and what is in these as Python objects.

It is built on python-arango, which does not follow a follower's 503: after a failure it is given the leader's address
anew. Nothing that it has is left out.
"""

import importlib.metadata

from arango_orm import Collection, Database, Graph, GraphConnection, Relation
from arango_orm.references import relationship

from work import Work, removed, wrote

DATABASE = "shop"


class Customer(Collection):
    __collection__ = "customers"
    _collection_config = {"indexes": [{"index_type": "persistent", "fields": ["email"], "unique": True}]}
    name: str
    email: str


class Order(Collection):
    __collection__ = "orders"
    _collection_config = {
        "indexes": [
            {"index_type": "hash", "fields": ["customer_key"], "unique": False},
            {"index_type": "skiplist", "fields": ["total"], "unique": False, "sparse": True},
        ]
    }
    customer_key: str
    total: int
    state: str
    customer: Customer = relationship(Customer, "customer_key")


class Line(Collection):
    __collection__ = "lines"
    order_key: str
    article: str
    amount: int


class Placed(Relation):
    __collection__ = "placed"
    year: int


class Shop(Graph):
    __graph__ = "shop"
    graph_connections = [GraphConnection(Customer, Placed, Order)]


work = Work("arango-orm", importlib.metadata.version("arango-orm"))


class Application:
    def connect(self):
        self.db = Database(work.python_arango(DATABASE))
        self.shop = Shop(connection=self.db)

    def create(self):
        work.python_arango("_system").create_database(DATABASE)
        self.connect()
        self.db.create_all([Shop, Customer, Order, Line])
        indexes = [len(self.db.collection(name).indexes()) for name in ("customers", "orders", "lines", "placed")]
        assert indexes == [2, 3, 1, 2], indexes

    def order(self, number):
        key = str(number)
        customer = Customer(key_=key, name=f"Customer {key}", email=f"{key}@example.org")
        order = Order(key_=key, customer_key=key, total=number * 10, state="new")
        add = lambda entity: self.db.add(entity, if_present="update")
        work.write("add", lambda: add(customer), wrote(DATABASE, "customers", {"_key": key}, email=customer.email))
        work.write("add", lambda: add(order), wrote(DATABASE, "orders", {"_key": key}, state="new"))
        placed = self.shop.relation(customer, Placed(key_=key, year=2000 + number % 20), order)
        ends = {"_from": f"customers/{key}", "_to": f"orders/{key}"}
        work.write("add a relation", lambda: add(placed), wrote(DATABASE, "placed", {"_key": key}, **ends))

        def with_customer():
            found = self.db.query(Order).by_key(key)
            return found.state, found.customer.email

        work.read("by_key, relationship", with_customer, ("new", customer.email))
        order.state = "paid"
        update = lambda: self.db.update(order, only_dirty=True)
        work.write("update", update, wrote(DATABASE, "orders", {"_key": key}, state="paid", total=number * 10))

        lines = [Line(key_=f"{key}-{n}", order_key=key, article=f"article {n}", amount=n) for n in range(1, 5)]
        written = (wrote(DATABASE, "lines", {"_key": line.key_}, amount=line.amount) for line in lines)
        work.write("bulk_add", lambda: self.db.bulk_add(lines, overwrite=True), *written)
        large = lambda: self.db.query(Line).filter("order_key==@key", key=key).filter("amount>@least", least=2)
        work.read("query: count", lambda: large().count(), 2)
        sorted_lines = lambda: [line.amount for line in large().sort("amount DESC").limit(3).all()]
        work.read("query: sort, limit", sorted_lines, [4, 3])
        delete = lambda: self.db.query(Line).filter_by(order_key=key, amount=4).delete()
        work.write("query: delete", delete, removed(DATABASE, "lines", {"_key": f"{key}-4"}))
        update = lambda: self.db.query(Order).filter_by(customer_key=key).update(state="sent")
        work.write("query: update", update, wrote(DATABASE, "orders", {"_key": key}, state="sent"))

        def placed_orders():
            self.shop.expand(customer, direction="outbound", depth=1)
            return [relation._next.state for relation in customer._relations.get("placed", [])]

        work.read("expand", placed_orders, ["sent"])
        if number % 3 == 0:
            delete = lambda: self.db.delete(lines[0])
            work.write("delete", delete, removed(DATABASE, "lines", {"_key": lines[0].key_}))
        left = lambda: self.db.query(Line).filter_by(order_key=key).limit(1).full_count()
        work.read("query: full_count", left, 2 if number % 3 == 0 else 3)


application = Application()
application.create()
work.connect = application.connect
work.units(application.order)
