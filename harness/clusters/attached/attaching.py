"""From what the command line says of somebody else's cluster to that cluster: looked at, but not touched."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from splitvote.harness.clusters.attached.cluster import AttachedCluster, new_token
from splitvote.harness.clusters.attached.endpoints import Endpoints, named, parse_endpoints
from splitvote.harness.clusters.attached.engine import DockerEngine, Engine
from splitvote.harness.clusters.attached.foreign import Foreign
from splitvote.harness.clusters.attached.ground import ALLOWABLE, Ground
from splitvote.harness.clusters.attached.project import DEFAULT_HELPER, Project, helper_facts
from splitvote.harness.clusters.attached.project_nodes import FoundProject, find_project
from splitvote.harness.clusters.attached.survey import Access, Survey, survey
from splitvote.harness.errors import ConfigError, unknown

DIVERGING: Final = "18667"
"""The known issue by which transactions that read what was compacted make members diverge, in every released etcd."""

COMPACTING: Final = ("kv", "watch")
"""Workloads that compact the store."""


def attached_cluster(
    wanted: Foreign,
    directory: Path,
    workloads: Sequence[str],
    *,
    avoided: Sequence[str] = (),
    probe: AttachedCluster | None = None,
    engine: Engine | None = None,
) -> AttachedCluster:
    """The cluster that is asked for, looked at (unless ``probe`` of the same options was) but not touched.

    ``workloads`` are those that are to run on it, ``avoided`` the known issues
    that they do not trigger.  Raises ConfigError or EnvironmentFailure for what
    cannot be.
    """
    access = Access(wanted.ca, wanted.cert, wanted.key, wanted.user)
    _ = access.options()  # files and password are missed now, or not at all
    check_allowed(wanted.allow, workloads, avoided)
    token = new_token()
    if wanted.project is not None:
        engine = engine or DockerEngine()
        ground, seen = _project(wanted, wanted.project, access, probe, engine, token)
    else:
        ground, seen = _endpoints(wanted.endpoints or "", access, probe)
    return AttachedCluster(
        directory=directory, ground=ground, survey=seen, access=access, token=token, allowed=wanted.allow
    )


def check_allowed(allowed: Sequence[str], workloads: Sequence[str], avoided: Sequence[str] = ()) -> None:
    """Refuse what cannot be allowed, and workloads that meet others' data unless they were; raises ConfigError.

    ``avoided`` are known issues that the workloads do not trigger.
    """
    for name in allowed:
        if name not in ALLOWABLE:
            raise ConfigError(f"--allow: {unknown('fault to be allowed', name, ALLOWABLE)}")
    for workload in workloads:
        if workload in COMPACTING and "compact" not in allowed:
            raise ConfigError(
                f"the workload {workload} compacts the store, which forgets the history of every key, others' too: "
                "--allow compact permits it; other workloads do not compact"
            )
    if "kv" in workloads and DIVERGING not in avoided:
        raise ConfigError(
            f"the workload kv makes members diverge for good by a known issue of etcd ({DIVERGING}), and others' data "
            f"with them: give --avoid {DIVERGING}"
        )


def _project(
    wanted: Foreign, project: str, access: Access, probe: AttachedCluster | None, engine: Engine, token: str
) -> tuple[Ground, Survey]:
    helper = wanted.helper_image or DEFAULT_HELPER
    if probe is not None:
        assert isinstance(probe.ground, Project)
        found, facts, no_links = probe.ground.found, probe.ground.facts, probe.ground.no_links
    else:
        found = find_project(engine, project, wanted.service_labels)
        _check_tls(found, access)
        facts, no_links = helper_facts(engine, helper, found)
    ground = Project(engine, found, token=token, helper=helper, facts=facts, no_links=no_links)
    return ground, asyncio.run(survey(ground.endpoints(), access)) if probe is None else probe.survey


def _check_tls(found: FoundProject, access: Access) -> None:
    by_tls = [node.name for node in found.nodes if node.has_tls]
    if by_tls and not access.has_tls:
        raise ConfigError(f"{', '.join(by_tls)} of project {found.name} serve clients by TLS: give --ca FILE")
    if access.has_tls and len(by_tls) < len(found.nodes):
        raise ConfigError(f"project {found.name}: not all members serve clients by TLS: leave --ca out")


def _endpoints(given: str, access: Access, probe: AttachedCluster | None) -> tuple[Ground, Survey]:
    if probe is not None:
        return probe.ground, probe.survey
    places, is_tls = parse_endpoints(given)
    if is_tls and not access.has_tls:
        raise ConfigError(f"--endpoints {given}: https wants --ca FILE, the authority that signs their certificates")
    found = asyncio.run(survey({place: place for place in places}, access))
    by_name = named(places, [found.members[place].name for place in places])
    members = {name: found.members[place] for name, place in by_name.items()}
    return Endpoints(by_name), Survey(members, found.others)
