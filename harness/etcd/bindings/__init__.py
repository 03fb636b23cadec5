"""How etcd serves each workload's operations: one module a workload, with a function ``binding(services)``."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from splitvote.harness.client import Binding
from splitvote.harness.etcd.bindings.services import Services
from splitvote.harness.etcd.bindings.together import BindingsTogether

__all__ = ["Services", "binding_of"]


def binding_of(workloads: Sequence[str], services: Services) -> Binding:
    """The binding of these workloads, which run at once when they are several."""
    each = {name: _binding_named(name, services) for name in workloads}
    return next(iter(each.values())) if len(each) == 1 else BindingsTogether(each)


def _binding_named(workload: str, services: Services) -> Binding:
    made: Binding = import_module(f"splitvote.harness.etcd.bindings.{workload.replace('-', '_')}").binding(services)
    return made
