"""The command line: parse, call a pure room or the journey, show."""
