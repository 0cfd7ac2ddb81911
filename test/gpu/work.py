"""A job on a GPU: says what it sees of it, multiplies matrices that are known, and keeps it at work."""

import os
import sys
import time

import torch

HOLD = 8 << 30


def say(word, value):
    print(word, value, flush=True)


say("visible", os.environ.get("CUDA_VISIBLE_DEVICES") or os.environ.get("NVIDIA_VISIBLE_DEVICES") or "none")
say("number", os.environ.get("DSTACK_GPUS_NUM"))
say("count", torch.cuda.device_count())
say("device", torch.cuda.get_device_name(0))
say("uuid", "GPU-%s" % torch.cuda.get_device_properties(0).uuid)
say("capability", "%d.%d" % torch.cuda.get_device_capability(0))
n = 4096
ones = torch.ones(n, n, device="cuda:0")
say("product", "right" if bool(((ones @ ones) == n).all()) else "wrong")
if len(sys.argv) > 1:
    hold = torch.zeros(min(HOLD, torch.cuda.mem_get_info()[0] // 2), dtype=torch.uint8, device="cuda:0")
    a = torch.randn(n, n, device="cuda:0", dtype=torch.bfloat16)
    say("working", len(hold))
    end = time.time() + float(sys.argv[1])
    while time.time() < end:
        for _ in range(50):
            a @ a
        torch.cuda.synchronize()
