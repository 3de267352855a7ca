"""spanwise: decide, plan, prove, serve and audit language models that outgrow one GPU or one machine."""

__version__ = "0.1.0"
