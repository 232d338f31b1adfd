"""Reading in a process of its own what HDF5 may crash on, hang on, or fill memory with."""
