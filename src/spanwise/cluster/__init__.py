"""cluster: the only importers of Ray's control API outside what runs inside Ray. Each module is a process of its own."""
