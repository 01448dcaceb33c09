"""The base job templates of `deploy/work-pools`: made pools by, and what their runs are told."""

import io
import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import PrefectClient
from prefect.utilities.schema_tools.validation import validate
from prefect.utilities.templating import apply_values, find_placeholders
from rich.console import Console

from linekeeper.cli.deploy import deploy
from linekeeper.refusal import UserError
from linekeeper.settings import Settings
from tests.deploy.conftest import blocks, paste
from tests.deploy.test_files import DEPLOY, KNOWN
from tests.fixtures_prefect import PrefectServer

KINDS = ("docker", "kubernetes")


def template(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DEPLOY / f"work-pools/{kind}.json").read_text())
    return found


def defaults(kind: str) -> dict[str, Any]:
    """What a run is started with where its deployment says nothing."""
    properties = template(kind)["variables"]["properties"]
    return {name: field["default"] for name, field in properties.items() if "default" in field}


async def prefects_own(client: PrefectClient, kind: str) -> dict[str, Any]:
    metadata = await client.read_worker_metadata()
    found: dict[str, Any] = metadata[f"prefect-{kind}"][kind]["default_base_job_configuration"]
    return found


@pytest.mark.parametrize("kind", KINDS)
async def test_prefect_takes_it_and_it_has_all_that_prefects_own_has(
    kind: str, clean_prefect: PrefectServer
) -> None:
    ours = template(kind)
    validate(
        defaults(kind),
        ours["variables"],
        raise_on_error=True,
        preprocess=True,
        ignore_required=True,
    )
    named = {placeholder.name for placeholder in find_placeholders(ours["job_configuration"])}
    assert named == set(ours["variables"]["properties"])
    async with PrefectClient(clean_prefect.api_url) as client:
        own = await prefects_own(client, kind)
        assert set(ours["variables"]["properties"]) == set(own["variables"]["properties"])
        assert set(ours["job_configuration"]) == set(own["job_configuration"])


@pytest.mark.parametrize(
    ("number", "kind"),
    [(0, "kubernetes"), pytest.param(1, "docker", marks=pytest.mark.soak)],
)
@pytest.mark.repeats(
    "deploy/test_work_pools.py::test_prefect_takes_it_and_it_has_all_that_prefects_own_has"
)
async def test_what_the_page_says_makes_the_pool(
    number: int, kind: str, clean_prefect: PrefectServer, tmp_path: Path
) -> None:
    there = {
        **os.environ,
        "LINEKEEPER_HOME": str(tmp_path / "home"),
        "PREFECT_API_URL": clean_prefect.api_url,
        "PREFECT_HOME": str(tmp_path / "prefect"),
    }
    block = blocks("Work pools")[number]
    await paste(block, DEPLOY.parent, there, Path(sys.executable).parent)
    async with PrefectClient(clean_prefect.api_url) as client:
        pool = await client.read_work_pool("linekeeper")
    assert (pool.type, pool.base_job_template) == (kind, template(kind))


def test_what_runs_are_told_exists_and_secrets_come_as_files() -> None:
    docker = defaults("docker")
    assert {name for name in docker["env"] if name.startswith("LINEKEEPER_")} <= KNOWN
    folder = docker["env"]["LINEKEEPER_SECRETS_DIR"]
    for name in ("linekeeper_database_url", "linekeeper_encryption_keys"):
        assert any(volume.endswith(f":{folder}/{name}:ro") for volume in docker["volumes"])
    manifest = apply_values(template("kubernetes")["job_configuration"], defaults("kubernetes"))
    assert isinstance(manifest, dict)
    pod = manifest["job_manifest"]["spec"]["template"]["spec"]
    worker = next(
        row["spec"]["template"]["spec"]
        for row in yaml.safe_load_all((DEPLOY / "kubernetes/linekeeper.yaml").read_text())
        if row["metadata"]["name"] == "linekeeper-setup-0-2-0"
    )
    for name in ("securityContext", "volumes", "automountServiceAccountToken"):
        assert pod[name] == worker[name], name
    [container], [same] = pod["containers"], worker["containers"]
    for name in ("envFrom", "volumeMounts", "securityContext", "image", "resources"):
        assert container[name] == same[name], name


@pytest.mark.soak
@pytest.mark.skipif(
    find_spec("kubernetes_validate") is None,
    reason="not installed: kubernetes-validate. `make soak` installs it",
)
def test_the_job_of_a_run_is_valid() -> None:
    import kubernetes_validate

    given = defaults("kubernetes") | {"command": ["prefect", "flow-run", "execute"], "name": "run"}
    given |= {"env": [], "labels": {}}  # the worker makes them so
    job = apply_values(template("kubernetes")["job_configuration"], given)
    assert isinstance(job, dict)
    kubernetes_validate.validate(job["job_manifest"], "1.31", strict=True)


async def test_a_file_that_is_no_template_is_refused(
    clean_prefect: PrefectServer, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text("{}")
    settings = Settings(home=tmp_path, prefect_port=clean_prefect.port, work_pool_template=wrong)
    with pytest.raises(UserError, match="no base job template"):
        await deploy(settings, reset=False, console=Console(file=io.StringIO()))
