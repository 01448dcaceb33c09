"""What is said of a workflow configuration."""

from linekeeper.store.tables import ConnectionSetting, Watermark, WorkflowConfiguration
from linekeeper.workflow_configuration.decide import ConfigurationStanding


def test_what_the_system_does_not_offer_is_said() -> None:
    names = ("eam/assets", "eam/nonsense")
    settings = [ConnectionSetting(connection_id="c", entity=name) for name in names]
    marks = {
        name: Watermark(connection_id="c", entity=name, offered=name == "eam/assets")
        for name in names
    }
    standing = ConfigurationStanding(
        WorkflowConfiguration(connection_id="c", configured_by="Ann"),
        "Acme",
        settings,
        marks,
        [],
        None,
    )
    assert standing.summary.endswith("; not offered by this system: eam/nonsense")
