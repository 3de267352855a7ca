"""Emulated hosts on one Linux machine, joined by links of a set rate, with a real Ray cluster over them."""
