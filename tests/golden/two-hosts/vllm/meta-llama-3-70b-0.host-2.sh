#!/bin/sh
# Written by spanwise 0.1.0 from plan meta-llama-3-70b 9dbbd4aff1fa7400.
# Gang meta-llama-3-70b-0 on host-2: ranks 4, 5, 6, 7.
ray start --address=host-1:6379 --block
