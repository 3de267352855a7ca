"""Models, GPUs, links and engine behaviour as data: value, unit, source, date."""
