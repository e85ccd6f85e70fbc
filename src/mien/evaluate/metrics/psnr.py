"""PSNR of RGB images, peak 255, in dB: the formula that encoding and training report too."""

from mien.media.images import psnr

__all__ = ["psnr"]
