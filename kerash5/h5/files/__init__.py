"""Opening HDF5 files: what opens, why others do not, and the handles of this process."""
