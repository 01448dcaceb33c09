"""What the environment says that no part of us reads, or reads in vain."""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from linekeeper.doctor.finding import DoctorFinding, warn, wrong
from linekeeper.implementation.order import TEMPLATES
from linekeeper.settings import Settings

_PREFIX = "LINEKEEPER_"
_OTHERS = ("IMAGE", "KEY", "SECRETS_DIR", "TEMPLATES", "UP_ID", "URL")
"""What is read that is no setting: by commands, by compose, by the sample of a product."""
_ALIKE = 0.8


def examine_environment(environment: Mapping[str, str]) -> list[DoctorFinding]:
    """Variables that are misspelt, and a folder of templates that isn't there; values stay out."""
    known = {
        _PREFIX + name for name in (*(each.upper() for each in Settings.model_fields), *_OTHERS)
    }
    findings = []
    for name in sorted(environment):
        if not name.upper().startswith(_PREFIX) or name.upper() in known:
            continue
        if meant := get_close_matches(name.upper(), sorted(known), n=1, cutoff=_ALIKE):
            text = f"{name} is set, and nothing reads it"
            findings.append(warn("environment", text, f"write {meant[0]} if that is meant"))
    folder = environment.get(TEMPLATES)
    if folder and not Path(folder).is_dir():
        text = f"{TEMPLATES}: {folder} is not a directory, so that no implementation can be begun"
        findings.append(wrong("templates", text, "correct it, or unset it for those shipped"))
    return findings
