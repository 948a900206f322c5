"""Sharding and processes: the device mesh, the rule tables, the shardings."""
