"""A cluster that is somebody else's, as the command line names it."""

from __future__ import annotations

from typing import Final

import msgspec

from splitvote.harness.errors import ConfigError


class Foreign(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How to find its members, what of others' data may be met, and how to get in; nothing where it is our own.

    ``project`` is a compose file or a project's name, ``endpoints`` are
    "HOST:PORT,...", ``allow`` faults of ``ground.ALLOWABLE``; ``ca``, ``cert`` and
    ``key`` are PEM files.
    """

    project: str | None = None
    service_labels: tuple[str, ...] = ()
    helper_image: str | None = None
    endpoints: str | None = None
    allow: tuple[str, ...] = ()
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    user: str | None = None

    def is_meant_by(self, cluster: str) -> bool:
        """Whether ``--cluster`` means it; raises ConfigError for options that have no meaning there."""
        is_meant = cluster == "attach" or (cluster == "compose" and self.project is not None)
        strange = {
            "--project": cluster != "compose" and self.project,
            "--endpoints": cluster != "attach" and self.endpoints,
            "--service-label": self.project is None and self.service_labels,
            "--helper-image": self.project is None and self.helper_image,
            "--allow": not is_meant and cluster != "ssh" and self.allow,
            "--ca": not is_meant and self.ca,
            "--cert": not is_meant and self.cert,
            "--key": not is_meant and self.key,
            "--user": not is_meant and self.user,
        }
        for option, is_strange in strange.items():
            if is_strange:
                raise ConfigError(
                    f"{option} has no meaning here: it is for a cluster that runs already, "
                    "--cluster compose --project FILE|NAME or --cluster attach --endpoints HOST:PORT,..."
                )
        if cluster == "attach" and not self.endpoints:
            raise ConfigError("--cluster attach wants --endpoints HOST:PORT,... of the members, each once")
        return is_meant


OUR_OWN: Final = Foreign()
"""No such cluster: the harness makes one."""
