"""From stored bytes to rows: h5py the reference, and faster readers that equal it."""
