"""The page of an import shows a customer's name as text, whatever is in it."""

import re
from datetime import UTC, datetime

from linekeeper.customers.importing import import_customers
from linekeeper.store import Store
from linekeeper.views.import_page import import_markdown

NOW = datetime(2026, 11, 30, 9, tzinfo=UTC)


async def test_a_name_from_the_file_makes_no_link_and_no_picture(store: Store) -> None:
    csv = b"name\n![x](https://evil.example/p.png)\n[Acme](https://evil.example)\n"
    planned = await import_customers(store, csv, by="Ada", now=NOW, dry_run=True)
    assert len(planned.create) == 2
    page = import_markdown(planned, dry_run=True)
    assert "evil" in page
    assert re.search(r"(?<!\\)\]\(", page) is None, page
