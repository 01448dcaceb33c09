"""What connections are called where a name has to be a key."""

from linekeeper.customers.naming import label, slug


def test_long_keys_that_end_differently_get_slugs_of_their_own() -> None:
    key = "makini-connection-acme-metals-production-plant-000"
    slugs = {slug("Acme", "SAP", "", f"{key}{n}", "default") for n in range(20)}
    assert len(slugs) == 20
    assert max(map(len, slugs)) < 160


def test_a_system_is_called_as_people_write_it_where_makini_gives_a_slug() -> None:
    assert label("Nordic", "sap-ecc", "Nordic Foundry · SAP ECC", None) == "Nordic · SAP ECC"
    assert label("Nordic", "SAP ECC", "Plant 1", None) == "Nordic · SAP ECC"
    assert label("Nordic", "sap-ecc", "Plant 1", None) == "Nordic · sap-ecc"
    assert label(None, "", "Plant 1", None) == "Plant 1"
