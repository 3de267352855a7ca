"""What runs inside Ray: gangs, the door, and the CPU platform that lets vLLM place ranks on logical GPUs."""
