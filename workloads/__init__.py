"""What clients do: one module a workload, with its operations, generator and checkers; they know no system."""
