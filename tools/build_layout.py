"""Build the packaged face layout from the ICT face model.

    python tools/build_layout.py DATA [OUTPUT]

DATA/ict_face.npz holds the ICT-FaceKit model (MIT licence, https://github.com/USC-ICT/ICT-FaceKit)
as numpy arrays: vertices, quads, uv, quad_uv, narrow_face_quads, face_quads and
landmarks68_300w_{triangles,barycentric}. The layout is the narrow face plus rings of quads round
it until all 68 landmarks lie on it, with the model's own symmetric uv, stretched to fill the
square. DATA/labels.npz tells how people hold their heads when they look into the camera, which is
what the canonical face does. Prints that and the digest that
facerecon.uv.layout.ICT_LAYOUT_SHA256 asserts.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial import cKDTree

from facerecon.geometry import FACE_TO_CAMERA, matrix_from_euler
from facerecon.uv import UVLayout

RINGS = 3
MARGIN = 2.6 / 64  # of the square, so that the ring of two texels fits in from 64 x 64 on
FEATURES = {  # 300-W landmark ranges and how far (in uv) their hull is widened
    "right eye": (36, 42, 0.03),
    "left eye": (42, 48, 0.03),
    "nose": (27, 36, 0.02),
    "mouth": (48, 68, 0.03),
}


def face_quads(model: dict[str, np.ndarray]) -> np.ndarray:
    """Indices of the narrow face's quads and RINGS rings of face quads round them."""
    quads = model["quads"][: int(model["face_quads"])]
    inside = np.zeros(len(quads), bool)
    inside[: int(model["narrow_face_quads"])] = True
    for _ in range(RINGS):
        touched = np.zeros(len(model["vertices"]), bool)
        touched[quads[inside]] = True
        inside |= touched[quads].any(1)
    return np.flatnonzero(inside)


def symmetric_triangles(quads: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """Split quads so that mirrored quads are split along mirrored diagonals."""
    key = {tuple(sorted(q)): i for i, q in enumerate(quads.tolist())}
    done = np.zeros(len(quads), bool)
    triangles: list[tuple[int, int, int]] = []

    def split(a: int, b: int, c: int, d: int) -> None:
        triangles.extend(t for t in ((a, b, c), (a, c, d)) if len(set(t)) == 3)

    for i, (a, b, c, d) in enumerate(quads.tolist()):
        if done[i]:
            continue
        split(a, b, c, d)
        twin = key[tuple(sorted(mirror[[a, b, c, d]].tolist()))]
        done[[i, twin]] = True
        if twin != i:
            ma, mb, mc, md = mirror[[a, b, c, d]].tolist()
            split(ma, md, mc, mb)  # mirroring turns the winding round
    return np.array(triangles, np.int32)


def frontal_pitch(labels: Path) -> float:
    """How far down the model's z axis points, degrees, when people look into the camera.

    The median over CFP's frontal photos (Sengupta et al., WACV 2016) in the training split, where
    people were chosen for just that. The model's own axes are arbitrary: in them everybody who
    looks into a camera looks down.
    """
    data = np.load(labels)
    frontal = (data["source"] == "cfp") & (data["split"] == "train") & data["good"]
    frontal &= np.abs(data["yaw"]) < 20
    pitch = float(np.median(data["pitch"][frontal]))
    print(f"{frontal.sum()} frontal photos: pitch {pitch:.2f} in the model's axes")
    return round(pitch, 1)


def build(folder: Path) -> UVLayout:
    model = dict(np.load(folder / "ict_face.npz"))
    chosen = face_quads(model)
    quads, quad_uv = model["quads"][chosen], model["quad_uv"][chosen]
    index, local = np.unique(quads, return_inverse=True)
    quads = local.reshape(quads.shape)
    # the model's charts repeat the coordinates along their seam; they must agree there
    uv = np.zeros((len(index), 2))
    uv[quads.ravel()] = model["uv"][quad_uv.ravel()]
    assert np.abs(uv[quads] - model["uv"][quad_uv]).max() < 1e-5, "a uv seam inside the face"
    uv[:, 1] = 1 - uv[:, 1]
    distance, mirror = cKDTree(uv).query(np.column_stack([1 - uv[:, 0], uv[:, 1]]))
    assert distance.max() < 1e-5 and (mirror[mirror] == np.arange(len(uv))).all()
    uv = (uv + np.column_stack([1 - uv[mirror, 0], uv[mirror, 1]])) / 2  # exactly symmetric
    low, high = uv.min(0), uv.max(0)
    uv = MARGIN + (1 - 2 * MARGIN) * (uv - low) / (high - low)
    triangles = symmetric_triangles(quads, mirror)

    canonical = model["vertices"][index].astype(np.float64)
    canonical = (canonical + canonical[mirror] * [-1, 1, 1]) / 2
    straight = matrix_from_euler(0.0, frontal_pitch(folder / "labels.npz"), 0.0)
    canonical = canonical @ (FACE_TO_CAMERA @ straight @ FACE_TO_CAMERA).T
    corners = canonical[triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    if normals[:, 2].sum() < 0:
        triangles = triangles[:, ::-1]

    position = np.full(len(model["vertices"]), -1)
    position[index] = np.arange(len(index))
    landmark_vertices = position[model["landmarks68_300w_triangles"]]
    landmark_weights = model["landmarks68_300w_barycentric"]
    assert (landmark_vertices >= 0).all(), "a landmark lies outside the layout: raise RINGS"

    landmark_uv = (uv[landmark_vertices] * landmark_weights[..., None]).sum(1)
    regions = np.ones(len(index), np.uint8)
    for start, stop, widen in FEATURES.values():
        hull = cv2.convexHull(landmark_uv[start:stop].astype(np.float32))
        for i, point in enumerate(uv):
            if cv2.pointPolygonTest(hull, (float(point[0]), float(point[1])), True) > -widen:
                regions[i] = 2
    regions = np.maximum(regions, regions[mirror])
    # mean motion over all expressions at full strength, centimetres; half weight at 0.25 mm
    motion = np.linalg.norm(model["expression"][:, index].astype(np.float64), axis=2).mean(0)
    motion = (motion + motion[mirror]) / 2
    rigidity = 1 / (1 + (motion / 0.025) ** 2)
    return UVLayout(
        name="ict",
        uv=uv.astype(np.float32),
        triangles=np.ascontiguousarray(triangles.astype(np.int32)),
        mirror=mirror.astype(np.int32),
        landmark_vertices=landmark_vertices.astype(np.int32),
        landmark_weights=landmark_weights.astype(np.float32),
        regions=regions,
        canonical=canonical.astype(np.float32),
        rigidity=rigidity.astype(np.float32),
        source_index=index.astype(np.int32),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    default = Path(__file__).parents[1] / "src/facerecon/assets/layout_ict.safetensors"
    parser.add_argument("output", type=Path, nargs="?", default=default)
    arguments = parser.parse_args()
    layout = build(arguments.data)
    layout.save(arguments.output)
    print(f"{layout.vertex_count} vertices, {len(layout.triangles)} triangles")
    print(layout.digest)


if __name__ == "__main__":
    main()
