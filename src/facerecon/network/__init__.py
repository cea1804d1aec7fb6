"""The network; torch only."""

from facerecon.network.config import NetworkConfig
from facerecon.network.net import FaceNetwork

__all__ = ["FaceNetwork", "NetworkConfig"]
