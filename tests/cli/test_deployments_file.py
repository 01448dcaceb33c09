"""Which file is deployed: in a checkout its own, as `prefect deploy --all` reads it."""

from pathlib import Path

import linekeeper
from tasks.prefect_adapter.project import commit_of, root, wanted_deployments

ROOT = Path(linekeeper.__file__).parents[1]


async def test_what_is_edited_in_a_checkout_is_what_is_deployed() -> None:
    """The wheel's file is a link to it: of a copy nobody would see that it is another one."""
    in_wheel = ROOT / "linekeeper" / "prefect.yaml"
    assert in_wheel.is_symlink()
    assert in_wheel.samefile(ROOT / "prefect.yaml")


async def test_a_deployment_of_a_checkout_has_its_commit_as_version() -> None:
    versions = {deployment.version for deployment in await wanted_deployments()}
    assert versions == {commit_of(root())}
