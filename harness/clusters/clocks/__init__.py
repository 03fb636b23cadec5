"""The clocks of single processes: patched in their private copies of the kernel's vDSO, and measured."""
