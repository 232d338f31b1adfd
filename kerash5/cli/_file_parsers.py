"""The options of the commands that write HDF5 files from others, and draw what is in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def add_view_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of `kerash5 view`."""
    parser.add_argument("path", type=str, help="the file, or a glob pattern")
    parser.add_argument(
        "--rows", type=str, default="0:64", help="0:64, every tenth 0:640:10, or 3,7,12"
    )
    parser.add_argument(
        "-x",
        "--x",
        type=str | None,
        default=None,
        help="data set to draw; default: that of describe",
    )
    parser.add_argument(
        "-y", "--y", type=str | None, default=None, help="data set of labels; default: likewise"
    )
    parser.add_argument(
        "--out", type=str | None, default=None, help="the PNG; default: the file's name with .png"
    )


def add_repack_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of `kerash5 repack`."""
    parser.add_argument("path", type=str, help="the file")
    parser.add_argument("out", type=str, help="the file to write")
    parser.add_argument(
        "--shuffle", action="store_true", help="write the rows in one random order of all columns"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of that order")
    parser.add_argument(
        "--chunks", type=int | Literal["auto"], default="auto", help="number of rows in a chunk"
    )
    parser.add_argument(
        "--compression",
        type=Literal["gzip", "lzf", "none", "zstd", "lz4", "blosc", "bitshuffle"],
        default="gzip",
        help="none: contiguous rows, the fastest to read; zstd and the next need hdf5plugin",
    )
    parser.add_argument(
        "--paged", action="store_true", help="gather HDF5's metadata in pages, for object stores"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")


def add_pack_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of `kerash5 pack`."""
    parser.add_argument(
        "path",
        type=str,
        help="a folder with a folder of images for each class; a .npy or .npz file; a CSV table; "
        "or mnist, which Keras downloads",
    )
    parser.add_argument(
        "out", type=str, help="the file to write; of mnist the folder for train.hdf5 and test.hdf5"
    )
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=None,
        metavar=("HEIGHT", "WIDTH"),
        help="resize images to this size; without it they must have one size",
    )
    parser.add_argument(
        "--image", type=str | None, default=None, help="column of a table: paths of images"
    )
    parser.add_argument("--label", type=str | None, default=None, help="column of a table: labels")
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave out images that cannot be read"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    parser.add_argument(
        "--backend",
        type=str | None,
        default=None,
        help="for mnist: the backend to import Keras with",
    )
