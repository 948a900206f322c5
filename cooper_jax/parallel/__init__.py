"""Where arrays lie: the mesh, the rule tables, the shardings."""
