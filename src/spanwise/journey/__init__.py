"""Composes the rooms below the line: the demo, bringing plans up, and asking what runs."""
