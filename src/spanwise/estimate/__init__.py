"""Memory, step time, collectives and serving under load: pure functions, each formula with its origin."""
