"""The manifests against Kubernetes' own schemas; what they say of images, secrets and probes."""

import re
from importlib.util import find_spec
from typing import Any

import pytest
import yaml

from tests.deploy.test_files import DEPLOY, KNOWN, check

MANIFESTS: list[dict[str, Any]] = list(
    yaml.safe_load_all((DEPLOY / "kubernetes/linekeeper.yaml").read_text())
)
PODS = {
    row["metadata"]["name"]: row["spec"]["template"]["spec"]
    for row in MANIFESTS
    if row["kind"] in ("Deployment", "Job")
}
VERSIONS = ("1.31", "1.37")


@pytest.mark.soak
@pytest.mark.skipif(
    find_spec("kubernetes_validate") is None,
    reason="not installed: kubernetes-validate. `make soak` installs it",
)
@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_is_valid_and_a_mistake_is_not(version: str) -> None:
    import kubernetes_validate

    for manifest in MANIFESTS:
        kubernetes_validate.validate(manifest, version, strict=True)
    [job] = [row for row in MANIFESTS if row["kind"] == "Job"]
    wrong = {**job, "spec": {**job["spec"], "backofLimit": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, version, strict=True)


def test_what_the_pods_run_and_are_told_exists_and_they_have_no_rights() -> None:
    [settings] = [row["data"] for row in MANIFESTS if row["kind"] == "ConfigMap"]
    assert {name for name in settings if name.startswith("LINEKEEPER_")} <= KNOWN
    assert len(PODS) == 4
    for name, pod in PODS.items():
        [container] = pod["containers"]
        command = container["command"]
        check(command[2] if command[:2] == ["sh", "-c"] else " ".join(command))
        assert pod["securityContext"]["runAsNonRoot"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        [secrets] = [
            count["mountPath"] for count in container["volumeMounts"] if "readOnly" in count
        ]
        assert secrets == settings["LINEKEEPER_SECRETS_DIR"]
        assert ("livenessProbe" in container) == ("setup" not in name), name


def test_what_is_outside_is_what_nginx_has_outside() -> None:
    [ingress] = [row for row in MANIFESTS if row["kind"] == "Ingress"]
    [rule] = ingress["spec"]["rules"]
    paths = {one["path"] for one in rule["http"]["paths"]}
    for file in ("nginx.conf", "nginx.compose.conf"):
        outside = (DEPLOY / file).read_text().split("ssl;")[1]
        passed = re.findall(r"location (/[a-z/]+) ", outside)
        assert {path.rstrip("/") for path in passed} == paths, file
