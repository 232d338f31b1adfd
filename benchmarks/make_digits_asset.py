"""Draw the digits that ship in `kerash5/assets/` from the full MNIST, byte for byte the same.

    python benchmarks/make_digits_asset.py --mnist DIR --out kerash5/assets

DIR holds `train.hdf5` and `test.hdf5` with the data sets `image` and `label`, as `kerash5 pack`
writes them. Rows are drawn by hash, not by a random generator, so the draw depends on no library's
random stream: each class gives the rows whose hashes are smallest, and they lie in the file in the
order of their hashes. The bytes came out equal with h5py 3.14 / HDF5 1.14.6 and h5py 3.16 / HDF5
2.0.0; another zlib may compress differently, the arrays stay.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEED = 1998
ROWS_PER_CLASS = {"train": 500, "test": 100}
CHUNK_ROWS = 100  # divides both files, so no chunk is partly filled; 78 kB of images decode at once
ATTRIBUTES = {
    "title": "A class-balanced sample of the MNIST database of handwritten digits",
    "authors": "Yann LeCun, Corinna Cortes, Christopher J. C. Burges",
    "license": "CC BY-SA 3.0, https://creativecommons.org/licenses/by-sa/3.0/",
    "drawn_by": "benchmarks/make_digits_asset.py",
    "seed": SEED,
}


def main() -> None:
    """Write both files and print their size and checksum."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mnist", type=Path, required=True, help="folder of the full files")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    arguments = parser.parse_args()
    for split in ROWS_PER_CLASS:
        path = write_sample(arguments.mnist, arguments.out, split)
        content = path.read_bytes()
        print(f"{hashlib.sha256(content).hexdigest()}  {path.name}  {len(content):,} bytes")


def write_sample(mnist: Path, out: Path, split: str) -> Path:
    """Write `digits-{split}.hdf5`: image (n, 28, 28) uint8, label (n,) int64, row (n,) int32."""
    with h5py.File(mnist / f"{split}.hdf5", "r") as file:
        images, labels = file["image"][:], file["label"][:]
    rows = draw_rows(labels, split)
    columns = {
        "image": images[rows].astype(np.uint8),
        "label": labels[rows].astype(np.int64),
        "row": rows.astype(np.int32),  # where each row lies in the full file
    }
    path = out / f"digits-{split}.hdf5"
    # A stated libver: with v108 as the oldest, h5py 3.14 stores the time in the root group.
    with h5py.File(path, "w", libver=("earliest", "v108")) as file:
        for name, value in ATTRIBUTES.items():
            file.attrs[name] = value
        file.attrs["source"] = f"{split}.hdf5 of MNIST; `row` is the row number there"
        for name, column in columns.items():
            write_column(file, name, column)
    return path


def draw_rows(labels: NDArray[np.int64], split: str) -> NDArray[np.int64]:
    """Return as many rows of each class, in the order of their hashes."""
    hashes = [
        hashlib.sha256(f"{SEED}/{split}/{row}".encode()).digest() for row in range(len(labels))
    ]
    order = np.array(sorted(range(len(labels)), key=hashes.__getitem__), dtype=np.int64)
    wanted = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        wanted[order[labels[order] == label][: ROWS_PER_CLASS[split]]] = True
    return order[wanted[order]]


def write_column(file: h5py.File, name: str, column: NDArray[np.generic]) -> None:
    """Write a column in gzip chunks of whole rows, without the time of writing.

    Shuffling bytes shrinks the wide integers and changes nothing for uint8.
    """
    file.create_dataset(
        name,
        data=column,
        chunks=(CHUNK_ROWS if column.ndim > 1 else 1000, *column.shape[1:]),
        compression="gzip",
        compression_opts=9,
        shuffle=column.itemsize > 1,
        track_times=False,
    )


if __name__ == "__main__":
    main()
