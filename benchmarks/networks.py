"""Parameters and multiply-adds of the named networks.

python benchmarks/networks.py
"""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from facerecon import FaceNetwork, NetworkConfig

for name in ("fast", "paper"):
    config = NetworkConfig.named(name)
    with torch.device("meta"):
        network = FaceNetwork(config).eval()
        pixels = torch.empty(1, 3, config.input_size, config.input_size)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(pixels)
    parameters = sum(p.numel() for p in network.parameters())
    print(
        f"{name:6} {config.input_size} -> {config.map_size}  {parameters / 1e6:6.2f} M parameters  "
        f"{counter.get_total_flops() / 2e9:6.2f} G multiply-adds"
    )
print("PRNet  256 -> 256   13.35 M parameters    4.13 G multiply-adds (by its own files)")
