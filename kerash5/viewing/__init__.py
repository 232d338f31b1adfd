"""Draw rows of a file as a contact sheet: `kerash5 view`."""

from kerash5.viewing._view import default_out, view

__all__ = ["default_out", "view"]
