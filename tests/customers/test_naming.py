"""What connections are called where a name has to be a key."""

from linekeeper.customers.naming import slug


def test_long_keys_that_end_differently_get_slugs_of_their_own() -> None:
    key = "makini-connection-acme-metals-production-plant-000"
    slugs = {slug("Acme", "SAP", "", f"{key}{n}", "default") for n in range(20)}
    assert len(slugs) == 20
    assert max(map(len, slugs)) < 160
