"""`explain` of an incident about lost logins names the mails to customers, and all connections."""

from linekeeper.clock import utcnow
from linekeeper.config import AppConfig, Configuration
from linekeeper.explain.notifying import why_unasked
from linekeeper.explain.render import plain
from linekeeper.explain.service import explain
from linekeeper.store import Store
from linekeeper.store.tables import Connection, Incident, IncidentConnection
from tests.reconnect.post import listening

from .test_ask import Opened, asking, work


async def test_an_incident_is_explained_with_the_mails_of_its_customers(open_house: Opened) -> None:
    async with listening() as post:
        house = await asking(open_house, post.url)
        connection, *_ = await house.connections()
        await house.lose_login(connection)
        await work(house)
        [incident] = await house.incidents()
        configuration = await house.rt.configuration()
        explanation = await explain(house.store, configuration, incident.id, now=utcnow())
        assert len(post.mails) == 1
    shown = plain(explanation)
    assert shown.count("Written for the customer's mail (") == 1
    assert "Sent after 1 attempt" in shown
    assert shown.count("severity ") <= 1


async def test_of_many_connections_that_are_not_asked_the_rest_is_counted(store: Store) -> None:
    incident = Incident(
        kind="reauthorization_required", scope="provider", cause="p", app="default", title="SAP"
    )
    async with store.write() as session:
        session.add(incident)
        await session.flush()
        for number in range(23):
            name = f"sap-{number}"
            connection = Connection(app="default", makini_key=name, name=name, slug=name)
            session.add(connection)
            await session.flush()
            session.add(
                IncidentConnection(
                    incident_id=incident.id,
                    connection_id=connection.id,
                    kind=incident.kind,
                )
            )
    configuration = Configuration(apps={"default": AppConfig()})
    async with store.read() as session:
        reasons = await why_unasked(session, configuration, incident)
    assert len(reasons) == 21
    assert reasons[-1] == "3 further connections of this incident, not looked at here"
