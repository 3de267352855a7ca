"""probe: a cluster becomes facts. What its hosts are, what their links carry, and what keeps a gang from forming.

The only things that run on other hosts are scripts of the standard library (`on_host`, `on_wire`, `on_leash`) and of torch (`on_group`);
they are sent as text, so that nothing of spanwise needs to be installed there.
"""
