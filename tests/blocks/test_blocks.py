"""Blocks and the core's configuration say the same."""

import inspect
from collections.abc import Callable

import pytest
from prefect.blocks.core import Block
from pydantic import SecretStr

import blocks
from blocks import AlertPolicy, HealthPolicy, Mail, MakiniApp, SlackChannel
from blocks.text import pairs
from linekeeper import config as core
from tasks.prefect_adapter.block_documents import BLOCKS

APP = core.AppConfig(
    name="acme",
    mode="manage",
    api_url="https://makini.acme.example",
    link_url="https://link.acme.example",
    client_id="id",
    client_secret=SecretStr("s3cret"),
    connection_field="id",
    per_page=50,
    paging="cursor",
    since="modified_after",
    per_minute=90,
    timeout_seconds=4.5,
    entities=("eam/assets", "wms/inventories"),
    bodies=("eam/assets",),
    webhook_secrets=(SecretStr("new"), SecretStr("old")),
    webhook_scheme="standard",
    webhook_reserialized=True,
    event_kinds={"conn.*": "connection.auth_required", "sync": "sync.completed"},
    state_required=False,
    notify_customers=True,
    forward_url="https://product.example/hooks",
    forward_secret=SecretStr("sign"),
    forward_targets={
        "crm": core.ForwardTarget(url=SecretStr("https://crm.example/?k=tok"), form="original"),
        "erp": core.ForwardTarget(url=SecretStr("https://erp.org"), secret=SecretStr("whsec_1")),
    },
)
POLICY = core.HealthPolicy(probe_minutes=1, misses_unreachable=4, root_cause_share=0.25)
SLACK = core.SlackConfig(
    bot_token=SecretStr("xoxb-1"), channel="#line", signing_secret=SecretStr("sig")
)
MAIL = core.MailConfig(smtp_url=SecretStr("smtps://u:p@mail.example:465"), sender="a@b.example")


ALERTS = core.AlertPolicy(
    time_zone="Europe/Berlin",
    quiet_hours="22:00-07:00",
    quiet_days="sun",
    remind_hours=2,
    escalate_from="normal",
    elsewhere=(SecretStr("json://user:pa,ss@hook.example/"), SecretStr("mailto://b.example")),
)


def test_a_name_given_twice_is_refused() -> None:
    """The last one was taken, without a word."""
    assert pairs("a = b\nc = b") == {"a": "b", "c": "b"}
    with pytest.raises(ValueError, match="'a' is given twice"):
        pairs("a = b, c = d, a = e")


def test_prefect_finds_each_block_in_the_module() -> None:
    """As `prefect block register --module blocks` looks for them; a deploy registers the same."""
    found = [each for _, each in inspect.getmembers(blocks) if Block.is_block_class(each)]
    assert {*found} == {*BLOCKS}


def test_an_app_survives_the_way_through_its_block_unchanged() -> None:
    assert MakiniApp.from_config(APP).to_config("acme") == APP
    assert MakiniApp.from_config(core.AppConfig()).to_config("default") == core.AppConfig()


def test_slack_policy_and_mail_survive_the_way_through_their_blocks() -> None:
    assert SlackChannel.from_config(SLACK).to_config() == SLACK
    assert HealthPolicy.from_config(POLICY).to_config() == POLICY
    assert Mail.from_config(MAIL).to_config() == MAIL
    assert AlertPolicy.from_config(ALERTS).to_config() == ALERTS


def test_an_empty_block_says_what_the_core_defaults_to() -> None:
    assert MakiniApp().to_config("default") == core.AppConfig()
    assert HealthPolicy().to_config() == core.HealthPolicy()
    assert AlertPolicy().to_config() == core.AlertPolicy()


@pytest.mark.parametrize(
    ("block", "own"),
    [
        (
            MakiniApp,
            {
                "bodies",
                "entities",
                "event_kinds",
                "forward_targets",
                "forward_url",
                "natural_keys",
                "tariffs",
                "webhook_secrets",
            },
        ),
        (SlackChannel, set()),
        (HealthPolicy, set()),
        (Mail, set()),
        (AlertPolicy, {"elsewhere"}),
    ],
)
def test_a_block_writes_only_what_its_form_shows_otherwise(
    block: type[MakiniApp], own: set[str]
) -> None:
    assert (
        set(block.__annotations__) - {"_block_type_name", "_block_type_slug", "_description"} == own
    )


def test_every_field_of_the_core_can_be_filled_in() -> None:
    for block, config, apart in (
        (MakiniApp, core.AppConfig, {"name", "forward_to"}),
        (SlackChannel, core.SlackConfig, set()),
        (HealthPolicy, core.HealthPolicy, set()),
        (Mail, core.MailConfig, set()),
        (AlertPolicy, core.AlertPolicy, set()),
    ):
        assert set(block.model_fields) == set(config.model_fields) - apart


@pytest.mark.parametrize("block", [MakiniApp, SlackChannel, HealthPolicy, AlertPolicy, Mail])
def test_every_field_is_flat_and_explains_itself(block: type[MakiniApp]) -> None:
    for name, field in block.model_json_schema()["properties"].items():
        assert field["type"] in {"string", "number", "integer", "boolean"}, name
        assert field["title"], name
        assert field["description"].endswith((".", "...")) or "=" in field["description"], name


@pytest.mark.parametrize(
    "text",
    [
        "https://crm.example",
        "crm = crm.example",
        "crm =",
        "c r m = https://crm.example",
        "crm = https://a.example one two",
        "crm = https://a.example\ncrm = https://b.example",
    ],
)
def test_a_forward_target_that_can_not_be_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"^line [12]:") as refused:
        MakiniApp(forward_targets=SecretStr(text)).to_config("default")
    assert "example" not in str(refused.value).replace("https://…", "")


def test_secrets_are_declared_as_secrets_and_do_not_show() -> None:
    assert set(MakiniApp.model_json_schema()["secret_fields"]) == {
        "client_secret",
        "webhook_secrets",
        "forward_url",
        "forward_targets",
        "forward_secret",
    }
    shown = repr(MakiniApp.from_config(APP)) + repr(SlackChannel.from_config(SLACK))
    shown += repr(Mail.from_config(MAIL))
    shown += repr(AlertPolicy.from_config(ALERTS))
    for secret in ("pa,ss", "s3cret", "old", "xoxb-1", "u:p"):
        assert secret not in shown


def test_lists_may_be_separated_by_commas_or_lines() -> None:
    for field in ("entities", "bodies"):
        with pytest.raises(ValueError, match=f"{field}: 'assets', 'eam/work orders' can't be"):
            MakiniApp(**{field: "assets, eam/sites, eam/work orders"}).to_config("default")
    with pytest.raises(ValueError, match="natural_keys: 'assets' can't be an entity"):
        MakiniApp(natural_keys="assets = serialNumber").to_config("default")
    app = MakiniApp(entities="eam/assets,\n erp/purchase-orders.line-items\n")
    assert app.to_config("default").entities == ("eam/assets", "erp/purchase-orders.line-items")


@pytest.mark.parametrize(
    ("read", "word"),
    [
        (lambda: MakiniApp(api_url="api.makini.io").to_config("default"), "https://"),
        (lambda: MakiniApp(event_kinds="connection.off").to_config("default"), "name = value"),
        (AlertPolicy(quiet_hours="late").to_config, "22:00-07:00"),
        (
            AlertPolicy(quiet_days="mon tue wed thu fri sat sun").to_config,
            "nobody would ever be notified",
        ),
        (AlertPolicy(remind_hours=48).to_config, "longest gap"),
        (AlertPolicy(elsewhere=SecretStr("pagerduty")).to_config, "no URL"),
        (AlertPolicy(time_zone="Berlin").to_config, "time zone"),
    ],
)
def test_a_bad_field_is_refused_with_what_is_wrong(read: Callable[[], object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        read()
