"""What the user asks: model, hardware, workload, objectives. Nothing here is derived or observed."""
