"""`deploy/compose.yaml` from the image of the version before to this one: nothing is lost.

It is done by pasting the last block of compose in `docs/deploy.md`.
"""

import json
import subprocess
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlmodel import col, func, select

import sandbox
from linekeeper.store.schema import head
from linekeeper.store.tables import Connection
from tests.deploy import containers
from tests.deploy.composed import PARTS, SERVICES, Composed, composed
from tests.deploy.conftest import blocks, checkout
from tests.deploy.containers import podman
from tests.deploy.test_compose import configured, events, quiet, statuses
from tests.e2e.conftest import ROOT, until
from tests.inbox.process.product import listening

LACKING = containers.missing("podman-compose", "openssl")
KNOWN = subprocess.run(
    ["git", "cat-file", "-e", containers.PREVIOUS], cwd=ROOT, capture_output=True, check=False
)
pytestmark = [
    pytest.mark.soak,
    pytest.mark.e2e,
    pytest.mark.skipif(bool(LACKING), reason=LACKING or ""),
    pytest.mark.skipif(bool(KNOWN.returncode), reason="the history is not in this checkout"),
]
LIVING = [name for name in SERVICES if name not in ("setup", "nginx")]
PATIENCE = 3_600


async def test_an_upgrade_from_the_image_before_keeps_everything(tmp_path: Path) -> None:
    services = await containers.services(tmp_path)
    images = dict.fromkeys(("POSTGRES_IMAGE", "REDIS_IMAGE", "NGINX_IMAGE"), services)
    await containers.previous(tmp_path)
    old = await _image_id(containers.IMAGE)
    here = await checkout(tmp_path / "checkout")
    box = sandbox.Settings(port=0, connections=8, records_per_connection=20, retry_scale=0.02)
    async with (
        listening() as product,
        composed(here, box, configured(box, product.url), images) as place,
    ):
        await place.completed("health-sweep", seconds=PATIENCE)  # it adopts what there is
        await place.control("records", change=100, per_webhook=1)
        await until(lambda: quiet(place), seconds=PATIENCE, what="the version before")
        for name in ("consumer-1", "consumer-2"):  # so that some is left to do
            await podman("stop", "-t", "15", place.container(name))
        await place.control("records", change=100, per_webhook=1)

        async def delivered() -> bool:
            return not (await place.truth("?records=0&webhooks=0"))["webhooks_outstanding"]

        await until(delivered, seconds=PATIENCE, what="the receivers of the version before")
        before, known, schema = await events(place), await _connections(place), await _schema(place)
        assert (await statuses(place))["pending"]
        assert known == 8

        await place.types(blocks("With compose")[-1])
        await place.healthy(*LIVING, seconds=PATIENCE)
        [image] = {await _image(place, name) for name in ("prefect", *PARTS)}
        assert image != old
        await place.control("records", change=100, per_webhook=1)
        await until(lambda: quiet(place), seconds=PATIENCE, what="this version")
        after = await events(place)
        assert before < after
        assert set(await statuses(place)) <= {"processed", "stale"}

        async def notified() -> bool:
            return after <= {identity for identity, _ in product.taken}

        await until(notified, seconds=PATIENCE, what="the product")
        assert await _connections(place) == known
        assert await _schema(place) == head() != schema
        assert not await place.schedules()  # what was set stays as it was
        ended = await place.completed("health-sweep", seconds=PATIENCE)
        assert ended["state_type"] == "COMPLETED"
        print(f"schema {schema} to {head()}, {len(before)} events before, {len(after)} after")


async def _connections(place: Composed) -> int:
    async with place.store() as store, store.read() as session:
        return await session.scalar(select(func.count(col(Connection.id)))) or 0


async def _schema(place: Composed) -> str:
    async with place.store() as store, store.read() as session:
        return str(await session.scalar(text("SELECT version_num FROM alembic_version")))


async def _image(place: Composed, name: str) -> str:
    return str(json.loads(await podman("inspect", place.container(name)))[0]["Image"])


async def _image_id(image: str) -> str:
    return str(json.loads(await podman("image", "inspect", image))[0]["Id"])
