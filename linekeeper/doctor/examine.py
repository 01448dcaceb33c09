"""Everything the doctor looks at, side by side, each with a time-out."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from sqlalchemy import func
from sqlmodel import col, select

from linekeeper.doctor.finding import DoctorFinding, warn, worst, wrong
from linekeeper.doctor.fleet import (
    connections_without_token,
    customers_named_twice,
    customers_without_contact,
    public_url,
    unreadable_connections,
    webhooks_without_app,
)
from linekeeper.doctor.house import examine_parts
from linekeeper.doctor.makini import examine_app
from linekeeper.doctor.notices import examine_alerts, examine_mail
from linekeeper.doctor.product import examine_product
from linekeeper.doctor.slack import examine_slack
from linekeeper.doctor.status_route import examine_status
from linekeeper.makini import MakiniError
from linekeeper.runtime import Runtime
from linekeeper.store.modes import count_ruled, modes_otherwise
from linekeeper.store.tables import Connection
from linekeeper.sweep.renewals import count_renewed

Look = Callable[[], Awaitable[Sequence[DoctorFinding]]]
"""Another look, handed in: Prefect's, which the core knows nothing of."""


async def examine(
    rt: Runtime, *, others: Sequence[Look] = (), seconds: float = 10.0
) -> list[DoctorFinding]:
    """What is to be said about apps, products, Slack, mail, the fleet and what `others` look at.

    Only looks: nothing is minted, posted or changed. Each look may take `seconds`.
    """
    configuration = await rt.configuration()
    async with rt.store.read() as session:
        rows = await session.execute(
            select(Connection.app, func.count())
            .where(col(Connection.setup) != "disconnected")
            .group_by(Connection.app)
        )
        counts: Mapping[str, int] = {row[0]: row[1] for row in rows}
        now = await rt.store.clock(session)
        renewed = {
            name: await count_renewed(session, app, now=now)
            for name, app in configuration.apps.items()
        }
        ruled = await count_ruled(session)
        fleet = [
            await customers_without_contact(session),
            *await customers_named_twice(session),
            *await connections_without_token(session, configuration.apps, now=now),
            *await unreadable_connections(rt.store, session),
            *await webhooks_without_app(session, configuration.apps),
        ]

    async def app(name: str) -> Sequence[DoctorFinding]:
        config = configuration.apps[name]
        try:
            makini = rt.makini(config)
        except MakiniError as error:
            return [wrong(f"app {name} · address", error.message, "correct the MakiniApp block")]
        findings = await examine_app(
            makini,
            configuration.policy,
            connections=counts.get(name, 0),
            renewed=renewed[name],
            seconds=seconds,
            otherwise=modes_otherwise(ruled, name, config.mode),
        )
        if worst(findings) != "wrong":
            findings += await examine_status(rt, config, makini, seconds=seconds)
        return findings

    looks = [
        *(app(name) for name in sorted(configuration.apps)),
        *(
            examine_product(configuration.apps[name], seconds=seconds)
            for name in sorted(configuration.apps)
        ),
        examine_slack(configuration, seconds=seconds),
        examine_alerts(rt.store, configuration),
        examine_parts(rt),
        examine_mail(rt.store, configuration, seconds=seconds),
        *(look() for look in others),
    ]
    findings_by_check = await asyncio.gather(*looks)
    findings = [finding for look in findings_by_check for finding in look]
    findings += [
        wrong("settings", problem, "correct the block, or put the right encryption key back")
        for problem in configuration.problems
    ]
    if not configuration.apps:
        findings.insert(
            0,
            warn(
                "makini",
                "no app is configured",
                "fill in a MakiniApp block, or set LINEKEEPER_MAKINI_API_URL and _CLIENT_ID, "
                "_CLIENT_SECRET; linekeeper up --sandbox needs none",
            ),
        )
    return [*findings, *fleet, public_url(rt.settings)]
