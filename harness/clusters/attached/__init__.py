"""Clusters that are somebody else's: a compose project, services on hosts, endpoints alone."""
