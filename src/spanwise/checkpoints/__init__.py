"""Models on disk and on the hub: find a config.json, and check weights before an engine trips over them."""
