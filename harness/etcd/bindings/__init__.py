"""How etcd serves each workload's operations: one module a workload, satisfying the Binding protocol."""
