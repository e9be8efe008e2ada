"""Faults of machines, servers and people. `table.ALL` says by which tests each is shown."""
