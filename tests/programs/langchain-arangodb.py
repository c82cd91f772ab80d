"""langchain-arangodb: a knowledge graph, questions to it, and the history of conversations.

It is built on python-arango, which does not follow a follower's 503: after a failure it is given the leader's address
anew. The language model is a stub that answers with the query that a real one would write. Vector and full-text search
are left out: they want vector indexes (3.12) and ArangoSearch.
"""

import importlib.metadata

from langchain_arangodb.chains.graph_qa.arangodb import ArangoGraphQAChain
from langchain_arangodb.chat_message_histories.arangodb import ArangoChatMessageHistory
from langchain_arangodb.graphs.arangodb_graph import ArangoGraph
from langchain_arangodb.graphs.graph_document import Document, GraphDocument, Node, Relationship
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.runnables import RunnableLambda

from work import Work, removed, wrote

DATABASE = "knowledge"
NEIGHBOURS = """
    WITH World_ENTITY
    FOR person IN World_ENTITY FILTER person.text == "{}"
        FOR place, edge IN 1..1 OUTBOUND person World_LINKS_TO
            SORT place.text
            RETURN CONCAT(edge.type, " ", place.text)
"""

work = Work("langchain-arangodb", importlib.metadata.version("langchain-arangodb"))


class Assistant:
    def connect(self):
        self.db = work.python_arango(DATABASE)
        self.graph = ArangoGraph(self.db)

    def create(self):
        work.python_arango("_system").create_database(DATABASE)
        self.connect()
        for name in ("Queries", "Conversations"):
            self.db.create_collection(name)

    def add(self, documents):
        self.graph.add_graph_documents(documents, include_source=True, graph_name="World")

    def session(self, number):
        name, city = f"Person {number}", f"City {number % 10}"
        person = Node(id=name, type="Person", properties={"born": 1900 + number % 100})
        places = [Node(id=city, type="City"), Node(id=f"Street {number}", type="Street")]
        links = [Relationship(source=person, target=place, type="LIVES_IN") for place in places]
        source = Document(page_content=f"{name} lives in {city}.", metadata={"page": number})
        document = GraphDocument(nodes=[person, *places], relationships=links, source=source)
        claims = [
            wrote(DATABASE, "World_ENTITY", {"text": name}, type="Person", born=1900 + number % 100),
            wrote(DATABASE, "World_ENTITY", {"text": f"Street {number}"}, type="Street"),
            wrote(DATABASE, "World_LINKS_TO", {"text": f"{name} LIVES_IN {city}"}, type="LIVES_IN"),
            wrote(DATABASE, "World_SOURCE", {"text": source.page_content}, page=number),
        ]
        work.write("add_graph_documents", lambda: self.add([document]), *claims)
        query = NEIGHBOURS.format(name)
        found = [f"LIVES_IN {city}", f"LIVES_IN Street {number}"]
        work.read("query", lambda: self.graph.query(query), found)
        explained = lambda: bool(self.graph.explain(query))
        work.read("explain", explained, True)
        schema = lambda: {entry["name"] for entry in self.graph.get_structured_schema["collection_schema"]} >= {
            "World_ENTITY",
            "World_LINKS_TO",
        }
        work.read("schema", schema, True)

        # A conversation; messages have no keys of the application's own.
        session = f"session {number}"
        history = lambda: ArangoChatMessageHistory(session, self.db, "Conversations")

        def said(role, **content):
            return wrote(DATABASE, "Conversations", {"session_id": session, **content}, role=role)

        work.write("add_user_message", lambda: history().add_user_message("Hello!"), said("human", content="Hello!"))
        greetings = lambda: {(message.type, message.content) for message in history().messages}
        work.read("messages", greetings, {("human", "Hello!")})
        question, reply = f"Where does {name} live?", f"```aql\n{query}\n```"

        def chain():
            return ArangoGraphQAChain.from_llm(
                RunnableLambda(lambda prompt: reply),
                graph=self.graph,
                allow_dangerous_requests=True,
                return_aql_result=True,
                embedding=DeterministicFakeEmbedding(size=8),
                query_cache_collection_name="Queries",
                use_query_cache=True,
                query_cache_similarity_threshold=0.9999,
                chat_history_store=history(),
                include_history=True,
            )

        def ask():
            answer = chain().invoke({"query": question})
            if answer["aql_result"] != found:
                # The chain takes a server that is gone for a fault of the query.
                raise RuntimeError(f"[ERR 1202] {answer}")

        asked = question.lower()
        cache = lambda: chain().cache_query(question, query)
        work.write("cache_query", cache, wrote(DATABASE, "Queries", {"text": asked}, aql=query))
        work.write("GraphQA with history", ask, said("qa", user_input=asked))
        roles = lambda: list(dict.fromkeys(message["role"] for message in history().get_messages()))
        work.read("get_messages", roles, ["human", "qa"])
        if number % 3 == 0:
            of_session = {"session_id": session}
            gone = [{**of_session, "content": "Hello!"}, {**of_session, "user_input": asked}]
            clear = lambda: history().clear()
            work.write("clear", clear, *(removed(DATABASE, "Conversations", example) for example in gone))
            work.read("get_messages", lambda: history().get_messages(), [])


assistant = Assistant()
assistant.create()
work.connect = assistant.connect
work.units(assistant.session)
