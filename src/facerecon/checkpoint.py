from dataclasses import dataclass
from facerecon.network import FaceNetwork
from facerecon.uv import UVLayout
@dataclass(frozen=True)
class Checkpoint:
    network: FaceNetwork
    layout: UVLayout
    margin: float
    def save(self, folder): pass
