"""All options of puppeteering, in one frozen value; what is beyond the paper can be switched off by None."""

from __future__ import annotations

from dataclasses import dataclass, field

from mien.errors import InputError
from mien.method.pivot import PivotOptions
from mien.reenact.eye_transfer import EyeTransferOptions
from mien.reenact.pivotal_image import PivotalImageTuning
from mien.reenact.portrait import PortraitTuning
from mien.reenact.retarget import RetargetOptions
from mien.reenact.warp_portrait import ViewOptions

METHODS = ("mien", "paper")


@dataclass(frozen=True)
class PuppetOptions:
    """How a face takes over a driver's motion. None switches a part off.

    `retargeting`: the driver's numbers in the person's own units; None: the driver's numbers as they are, bit for bit.
    `tuning`: learn the face (an image, or a person whose weights are known) for this driver, or tune to an image around
    its inversion, whoever drives it (`PivotalImageTuning`, the paper's); None: an image is inverted and drawn by the
    pack's weights. A stream or person that is not learned keeps L_ID and weights. `views`: warped views of the portrait
    to tune to; None: the one image. `eye_transfer`: the portrait's own eyes in those views; None: those of the pack's
    renders. Views and eyes have a use with `PortraitTuning` only. `pivot`: the latent of an image is optimised first, in
    packs with a mapping network; None: it is the encoder's.
    """

    retargeting: RetargetOptions | None = field(default_factory=RetargetOptions)
    views: ViewOptions | None = field(default_factory=ViewOptions)
    eye_transfer: EyeTransferOptions | None = field(default_factory=EyeTransferOptions)
    tuning: PortraitTuning | PivotalImageTuning | None = field(default_factory=PortraitTuning)
    pivot: PivotOptions | None = field(default_factory=PivotOptions)

    @staticmethod
    def mien() -> PuppetOptions:
        """Everything that this project adds."""
        return PuppetOptions()

    @staticmethod
    def paper() -> PuppetOptions:
        """The paper's form (Sec. 4.3): the other's L_ID and weights, the driver's 35 numbers unchanged. The weights of
        an image's person are had as those of a clip's, by pivotal tuning (Sec. 4.1)."""
        return PuppetOptions(None, None, None, PivotalImageTuning(), None)

    @staticmethod
    def of(method: str) -> PuppetOptions:
        """The preset of a name. Raises InputError for one that is none."""
        if method not in METHODS:
            raise InputError(f"there is no method {method!r}: take {' or '.join(METHODS)}.")
        return PuppetOptions.paper() if method == "paper" else PuppetOptions.mien()
