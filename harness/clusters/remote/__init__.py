"""Members on nodes that are reached by commands: docker-compose's containers, hosts over ssh."""
