"""Write a file again so that its rows are fast to read: `kerash5 repack`."""

from kerash5.repacking._repack import Repacked, repack

__all__ = ["Repacked", "repack"]
