"""When a connection counts as what, and when operators are notified of it."""

from typing import ClassVar, Self

from prefect.blocks.core import Block

from linekeeper import config as core


class HealthPolicy(core.HealthFields, Block):
    """When a connection counts as what, and when operators are notified of it."""

    _block_type_name: ClassVar[str] = "Health Policy"
    _block_type_slug: ClassVar[str] = "health-policy"
    _description: ClassVar[str] = (
        "When a connection counts as unreachable, flapping, slow or stale, and how often it is "
        "probed. Save it as `default`."
    )

    def to_config(self) -> core.HealthPolicy:
        """What the core reads. Raises `ValueError` naming a bad field."""
        return core.HealthPolicy(**self.model_dump(include=set(core.HealthFields.model_fields)))

    @classmethod
    def from_config(cls, config: core.HealthPolicy) -> Self:
        """The block that says what `config` says."""
        return cls(**config.model_dump())
