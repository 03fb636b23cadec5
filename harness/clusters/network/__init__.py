"""Links between nodes of this machine, and how they are hurt: proxies on loopback, namespaces with packet filters."""
