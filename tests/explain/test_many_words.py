"""A long subject in a large fleet holds up nobody: each connection is looked at a few times."""

import pytest
from sqlalchemy import insert

from linekeeper.clock import utcnow
from linekeeper.config import Configuration
from linekeeper.customers.find import NotFound, fold
from linekeeper.explain.service import explain
from linekeeper.store import Store
from linekeeper.store.tables import Connection

MANY, WORDS = 100, 300


async def test_a_subject_of_many_words_is_not_compared_with_every_name_for_each(
    store: Store,
) -> None:
    rows = [
        Connection(
            app="default",
            makini_key=f"k{number}",
            name=f"Plant {number}",
            slug=f"plant-{number}",
            provider="Maximo",
        ).model_dump()
        for number in range(MANY)
    ]
    async with store.write() as session:
        await session.execute(insert(Connection), rows)
    before = fold.cache_info()
    with pytest.raises(NotFound, match="nothing is known"):
        await explain(store, Configuration(), " ".join("ab" * (WORDS // 2)), now=utcnow())
    after = fold.cache_info()
    compared = after.hits + after.misses - before.hits - before.misses
    assert compared < 10 * (MANY + WORDS)
