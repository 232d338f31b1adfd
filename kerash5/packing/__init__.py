"""Make an HDF5 file of images in folders, of NumPy's files, or of a CSV table: `kerash5 pack`."""

from kerash5.packing._pack import Packed, pack

__all__ = ["Packed", "pack"]
