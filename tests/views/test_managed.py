"""What screens say of the mode, connection by connection."""

from datetime import timedelta

from linekeeper.access.modes import WantedMode, change, find_subjects
from linekeeper.clock import utcnow
from linekeeper.config import AppConfig, Configuration
from linekeeper.notify.view import FROM_A_PAGE, Links
from linekeeper.runtime import Runtime
from linekeeper.settings import Settings
from linekeeper.store import Store, new_id
from linekeeper.store.tables import Connection
from linekeeper.views.digest_page import gather, markdown
from linekeeper.views.first_report import first_report_markdown, read_first_report
from linekeeper.views.fleet_page import fleet_markdown
from linekeeper.views.fleet_queries import fleet_report
from linekeeper.views.gauges import exposition, read_gauges
from linekeeper.views.glance import glance
from linekeeper.views.managed import Managed, managed_sentence
from linekeeper.views.stamps import fleet_stamp


def test_it_says_what_is_so() -> None:
    assert managed_sentence([]) == ""
    assert managed_sentence([Managed(3)]) == (
        "0 of 3 managed, all observed; no customer is notified"
    )
    assert managed_sentence([Managed(600, 600, 600)]) == (
        "all 600 managed; customers of 600 are notified"
    )
    some = [Managed(500, 10, 3, 10), Managed(100, 0, 0, 0)]
    assert managed_sentence(some, ["tag pilot"]) == (
        "10 of 600 managed (rules: tag pilot), 590 observed; customers of 3 are notified"
    )
    assert "rules: a, b, c and 1 more" in managed_sentence(some, "abcd")


async def test_every_screen_says_it_by_connection(settings: Settings, store: Store) -> None:
    observed = settings.model_copy(update={"makini_api_url": "http://127.0.0.1:9"})
    async with Runtime.open(observed) as rt:
        await screens_say_it(rt)


async def screens_say_it(rt: Runtime) -> None:
    async with rt.store.write() as session:
        for number in range(4):
            session.add(
                Connection(
                    id=new_id(),
                    app="default",
                    makini_key=f"c{number}",
                    name=f"System {number}",
                    slug=f"system-{number}",
                    provider=f"System {number}",
                    setup="disconnected" if number == 3 else "live",
                    tags=["pilot"] if number in (0, 3) else [],
                )
            )
    apps = {"default": AppConfig(mode="observe")}
    configuration = Configuration(apps=apps)
    now, links = utcnow(), Links(FROM_A_PAGE)
    before = await fleet_stamp(rt.store, configuration, links, now=now)
    subjects = await find_subjects(rt, tags=["pilot"])
    await change(rt, WantedMode(subjects, "manage", True), by="anna", now=now)
    assert await fleet_stamp(rt.store, configuration, links, now=now) != before

    said = "1 of 3 managed (rules: tag pilot), 2 observed; customers of 1 are notified"
    fleet = await fleet_report(rt.store, configuration, now=now)
    page = fleet_markdown(fleet, links)
    assert f"Mode by connection: {said}." in page
    assert "observe (1 of 3 managed, 2 observed; customers of 1 are notified)" in page
    seen = await glance(rt.store, configuration, now=now)
    assert managed_sentence([seen.apps["default"].managed], seen.mode_rules) == said
    assert seen.as_json()["apps"]["default"]["managed"]["written_to"] == 1
    assert said in first_report_markdown(await read_first_report(rt, now=now))
    day = await gather(rt.store, apps, now=now + timedelta(seconds=1))
    assert f"**Mode** {said}" in markdown(day)
    metrics = exposition(await read_gauges(rt.store, configuration, now=now)).decode()
    assert 'linekeeper_connections_mode{app="default",mode="manage"} 1.0' in metrics
    assert 'linekeeper_connections_mode{app="default",mode="observe"} 2.0' in metrics
    assert 'linekeeper_connections_written_to{app="default"} 1.0' in metrics
