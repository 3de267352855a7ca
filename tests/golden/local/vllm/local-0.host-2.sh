#!/bin/sh
# Written by spanwise 0.1.0 from plan local 211829446c598fc7.
# Gang local-0 on host-2: ranks 2, 3.
export GLOO_SOCKET_IFNAME=eth1  # joins the hosts
export NCCL_SOCKET_IFNAME='=eth1'  # joins the hosts
ray start --address=host-1:6379 --block
