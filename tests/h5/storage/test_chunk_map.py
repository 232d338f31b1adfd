import math
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from kerash5._errors import DamagedFileError
from kerash5.h5.storage import _chunk_map, _layout
from kerash5.h5.storage._chunk_map import (
    ALL_SKIPPED,
    ChunkMap,
    cross_check,
    read_chunk_map,
    why_not_direct,
    why_not_mapped,
)
from kerash5.h5.storage._filters import Filter
from kerash5.h5.storage._layout import Layout, read_layout
from tests.strategies import StoredArray, stored_arrays, written

FORMAT_CONVERT: Final = "files/brtnfld+hdf5/tools/test/h5format_convert/testfiles"
TILED: Final[dict[str, Any]] = {"chunks": (5, 4), "maxshape": (12, 12)}

# A data set that passes every gate; each test of a rule changes what the rule is about.
SOUND: Final = Layout(
    shape=(12, 12),
    maxshape=(None, 12),
    rank=2,
    dtype=np.dtype("<i4"),
    chunks=(5, 4),
    num_written_chunks=9,
    filters=(Filter(1, 1, (4,), "gzip"),),
    edges_skip_filters=False,
    fill_bytes=b"\0\0\0\0",
    num_stored_bytes=700,
    offset=None,
    first_byte=0,
    dtype_is_exact=True,
    is_virtual=False,
    has_external_bytes=False,
    why_not_plain=None,
)


def layout_of(path: Path, name: str = "x", **options: Any) -> Layout:
    with h5py.File(path, "r", **options) as file:
        return read_layout(file[name], file)


def map_of(path: Path, name: str = "x") -> ChunkMap:
    with h5py.File(path, "r") as file:
        return read_chunk_map(file[name], read_layout(file[name], file))


def write_x(path: Path, values: np.ndarray | None = None, **options: Any) -> Path:
    values = np.arange(144, dtype="<i4").reshape(12, 12) if values is None else values
    libver = options.pop("libver", "earliest")
    with h5py.File(path, "w", libver=(libver, "latest")) as file:
        file.create_dataset("x", data=values, **options)
    return path


def creation_with(**settings: Any) -> Any:
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    for name, value in settings.items():
        getattr(creation, f"set_{name}")(value)
    return creation


def assert_map_is_right(path: Path, dataset: h5py.Dataset, chunk_map: ChunkMap) -> None:
    """Check every chunk of the grid against what HDF5 reads by itself."""
    raw = path.read_bytes()
    for number in range(chunk_map.num_chunks):
        place = np.unravel_index(number, chunk_map.grid)
        first = tuple(int(at) * size for at, size in zip(place, dataset.chunks, strict=False))
        offset, size = int(chunk_map.offsets[number]), int(chunk_map.sizes[number])
        if offset < 0:
            assert (offset, size, chunk_map.masks[number]) == (-1, 0, 0)
            if (chunk_map.offsets < 0).all():
                continue  # h5py takes a size out of thin air here
            with pytest.raises((OSError, RuntimeError)):
                dataset.id.read_direct_chunk(first)
            continue
        mask, stored = dataset.id.read_direct_chunk(first)
        assert raw[offset : offset + size] == stored
        assert chunk_map.masks[number] == mask


@given(case=stored_arrays())
def test_every_mapped_chunk_is_what_hdf5_reads(case: StoredArray) -> None:
    with written(case) as path, h5py.File(path, "r") as file:
        layout = read_layout(file["x"], file)
        if why_not_mapped(layout) is None:
            chunk_map = read_chunk_map(file["x"], layout)
            assert_map_is_right(path, file["x"], chunk_map)
            assert cross_check(file["x"], chunk_map, count=5)


@dataclass(frozen=True)
class Growing:
    """A data set that was resized and partly written, again and again."""

    shapes: tuple[tuple[int, ...], ...]
    chunks: tuple[int, ...]
    maxshape: tuple[int | None, ...]
    libver: str
    compression: str | None
    is_allocated_early: bool
    stores_one_unfiltered: bool

    def write(self, path: Path) -> None:
        alloc = h5py.h5d.ALLOC_TIME_EARLY if self.is_allocated_early else 0
        rng = np.random.default_rng(0)
        with h5py.File(path, "w", libver=(self.libver, "latest")) as file:
            dataset = file.create_dataset(
                "x",
                self.shapes[0],
                "<i2",
                chunks=self.chunks,
                maxshape=self.maxshape,
                compression=self.compression,
                dcpl=creation_with(alloc_time=alloc),
            )
            for shape in self.shapes:
                dataset.resize(shape)
                low = [int(rng.integers(0, length)) for length in shape]
                dataset[tuple(slice(start, start + 4) for start in low)] = int(rng.integers(9))
        if self.stores_one_unfiltered and self.compression:
            # Opened again: HDF5 would later write what it still holds of the chunk itself.
            with h5py.File(path, "r+") as file:
                values = rng.bytes(2 * math.prod(self.chunks))
                first = tuple(n // size * size for n, size in zip(low, self.chunks, strict=True))
                file["x"].id.write_direct_chunk(first, values, filter_mask=1)


@st.composite
def growing(draw: st.DrawFn) -> Growing:
    rank = draw(st.integers(1, 3))
    count = draw(st.integers(1, 4))
    shapes = [tuple(draw(st.integers(1, 9)) for _ in range(rank)) for _ in range(count)]
    longest = [max(lengths) for lengths in zip(*shapes, strict=True)]
    return Growing(
        tuple(shapes),
        tuple(draw(st.integers(1, min(4, length))) for length in longest),
        tuple(draw(st.sampled_from([None, length, length + 5])) for length in longest),
        draw(st.sampled_from(["earliest", "v108", "v110", "latest"])),
        draw(st.sampled_from([None, "gzip"])),
        draw(st.booleans()),
        draw(st.booleans()),
    )


@given(case=growing())
def test_resized_data_sets_are_mapped_right(
    case: Growing, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("growing") / "a.h5"
    case.write(path)
    with h5py.File(path, "r") as file:
        layout = read_layout(file["x"], file)
        if why_not_mapped(layout) is None:
            chunk_map = read_chunk_map(file["x"], layout)
            assert_map_is_right(path, file["x"], chunk_map)
            assert np.count_nonzero(chunk_map.offsets >= 0) == layout.num_written_chunks


def test_a_map_pickles_and_stays_read_only(tmp_path: Path) -> None:
    chunk_map = map_of(write_x(tmp_path / "a.h5", **TILED, compression="gzip"))
    again = pickle.loads(pickle.dumps(chunk_map))
    assert again.grid == chunk_map.grid == (3, 3)
    assert again.num_chunks == 9
    for name in ("offsets", "sizes", "masks"):
        assert_array_equal(getattr(again, name), getattr(chunk_map, name))
        for one in (again, chunk_map):
            with pytest.raises(ValueError, match="read-only"):
                getattr(one, name)[0] = 1


def test_a_layout_pickles_and_is_a_value(tmp_path: Path) -> None:
    layout = layout_of(write_x(tmp_path / "a.h5", **TILED, compression="gzip", fillvalue=7))
    assert pickle.loads(pickle.dumps(layout)) == layout
    assert hash(layout) == hash(pickle.loads(pickle.dumps(layout)))
    assert layout.filters[0].name == "gzip"
    assert (layout.grid, layout.num_chunks, layout.chunk_bytes) == ((3, 3), 9, 80)
    assert layout.fill is not None
    assert layout.fill.shape == ()
    assert layout.fill == 7


def test_sub_arrays_have_chunks_of_their_own_axes(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dtype = np.dtype(("<i2", (3,)))
        file.create_dataset("x", (9,), dtype, chunks=(4,), compression="gzip")[:5] = np.ones((5, 3))
    layout = layout_of(tmp_path / "a.h5")
    assert (layout.shape, layout.chunks, layout.grid, layout.rank) == ((9, 3), (4, 3), (3, 1), 1)
    assert (layout.element_bytes, layout.chunk_bytes, layout.has_holes) == (6, 24, True)
    assert why_not_mapped(layout) is None
    assert (map_of(tmp_path / "a.h5").offsets >= 0).tolist() == [True, True, False]


def test_a_hundred_thousand_chunks_are_mapped_in_one_pass(tmp_path: Path) -> None:
    early = creation_with(alloc_time=h5py.h5d.ALLOC_TIME_EARLY)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (50_000, 4), "u1", chunks=(1, 2), dcpl=early)
    walks = []
    with h5py.File(tmp_path / "a.h5", "r") as file:
        dataset = file["x"]

        def chunk_iter(visit: Callable[[Any], Any]) -> None:
            walks.append(visit)
            dataset.id.chunk_iter(visit)

        one_pass = SimpleNamespace(
            id=SimpleNamespace(chunk_iter=chunk_iter), shape=dataset.shape, chunks=dataset.chunks
        )
        chunk_map = read_chunk_map(one_pass, read_layout(dataset, file))
        assert len(walks) == 1
        assert len(np.unique(chunk_map.offsets)) == chunk_map.num_chunks == 100_000
        assert set(chunk_map.sizes.tolist()) == {2}
        for number in (0, 1, 8191, 8192, 99_999):
            info = dataset.id.get_chunk_info(number)
            assert info.chunk_offset == (number // 2, number % 2 * 2)
            assert info.byte_offset == chunk_map.offsets[number]


def test_a_sound_data_set_passes_every_gate(tmp_path: Path) -> None:
    assert why_not_mapped(SOUND) is None
    assert why_not_direct(SOUND) is None
    path = write_x(tmp_path / "a.h5", **TILED, compression="gzip", shuffle=True, fletcher32=True)
    assert why_not_mapped(layout_of(path)) is None
    assert why_not_direct(layout_of(path)) is None


def test_data_without_chunks_are_not_read_by_chunks(tmp_path: Path) -> None:
    write_x(tmp_path / "plain.h5")
    write_x(tmp_path / "compact.h5", dcpl=creation_with(layout=h5py.h5d.COMPACT))
    for name in ("plain.h5", "compact.h5"):
        assert why_not_mapped(layout_of(tmp_path / name)) == "it is not stored in chunks"
        assert why_not_direct(layout_of(tmp_path / name)) == "it is not stored in chunks"


def test_virtual_data_sets_are_not_read_by_chunks(tmp_path: Path) -> None:
    path = write_x(tmp_path / "a.h5", **TILED)
    virtual = h5py.VirtualLayout((12, 12), "<i4")
    virtual[:] = h5py.VirtualSource(path, "x", (12, 12))
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_virtual_dataset("x", virtual)
    layout = layout_of(tmp_path / "v.h5")
    assert "virtual" in (why_not_mapped(layout) or "")
    assert "virtual" in (why_not_direct(layout) or "")


def test_data_in_other_files_are_not_read_by_chunks(tmp_path: Path) -> None:
    write_x(tmp_path / "a.h5", **TILED)
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["x"] = h5py.ExternalLink("a.h5", "x")
        file.create_dataset("raw", (4,), "i4", external=[("raw.bin", 0, 16)])
    for name in ("x", "raw"):
        layout = layout_of(tmp_path / "link.h5", name)
        assert why_not_mapped(layout) == why_not_direct(layout) == "its bytes lie in other files"


@pytest.mark.parametrize("shape", [(0, 4), (4, 0)], ids=["no rows", "empty rows"])
def test_data_sets_of_no_values_are_not_read_by_chunks(
    shape: tuple[int, int], tmp_path: Path
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        maxshape = tuple(length or None for length in shape)
        file.create_dataset("x", shape, "i4", maxshape=maxshape, chunks=(2, 2), compression="gzip")
    layout = layout_of(tmp_path / "a.h5")
    assert layout.num_chunks == 0
    assert why_not_mapped(layout) == why_not_direct(layout) == "it holds no values"


def test_types_that_h5py_converts_are_not_read_by_chunks(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        space = h5py.h5s.create_simple((4,))
        creation = creation_with(chunk=(2,))
        odd = h5py.h5t.STD_I32LE.copy()
        odd.set_precision(20)
        h5py.h5d.create(file.id, b"x", odd, space, creation)
        file.create_dataset("text", data=["ab"] * 4, chunks=(2,))
    for name in ("x", "text"):
        layout = layout_of(tmp_path / "a.h5", name)
        assert "is converted on reading" in (why_not_mapped(layout) or "")
        assert "is converted on reading" in (why_not_direct(layout) or "")


def test_filters_that_cannot_be_undone_here_are_left_to_hdf5(tmp_path: Path) -> None:
    path = write_x(tmp_path / "a.h5", **TILED, scaleoffset=0)
    assert "scaleoffset" in (why_not_mapped(layout_of(path)) or "")
    assert "scaleoffset" in (why_not_direct(layout_of(path)) or "")


def test_huge_chunks_are_left_to_hdf5(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (4, 4), "u1", chunks=(1 << 18, 2048), maxshape=(None, None))
    layout = layout_of(tmp_path / "a.h5")
    assert "each of its chunks holds 536,870,912 bytes" in (why_not_mapped(layout) or "")
    assert "each of its chunks holds 536,870,912 bytes" in (why_not_direct(layout) or "")


FILL_VALUES: Final = {
    "never filled": (creation_with(fill_time=h5py.h5d.FILL_TIME_NEVER), None),
    "default": (creation_with(), b"\0\0\0\0"),
    "filled on writing": (creation_with(fill_time=h5py.h5d.FILL_TIME_ALLOC), b"\0\0\0\0"),
}


@pytest.mark.parametrize("name", FILL_VALUES)
def test_holes_are_mapped_where_a_fill_value_says_what_they_read_as(
    name: str, tmp_path: Path
) -> None:
    creation, fill_bytes = FILL_VALUES[name]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (12, 12), "<i4", chunks=(5, 4), dcpl=creation)[:5, :4] = 1
    layout = layout_of(tmp_path / "a.h5")
    assert (layout.num_written_chunks, layout.has_holes) == (1, True)
    assert layout.fill_bytes == fill_bytes
    assert (layout.fill is None) == (fill_bytes is None)
    reason = "chunks of it may never have been written, and it has no fill value to read there"
    assert why_not_mapped(layout) == (reason if fill_bytes is None else None)
    assert "never" in (why_not_direct(layout) or "")


def test_without_holes_no_fill_value_is_needed(tmp_path: Path) -> None:
    never = creation_with(fill_time=h5py.h5d.FILL_TIME_NEVER)
    layout = layout_of(write_x(tmp_path / "a.h5", **TILED, dcpl=never))
    assert layout.fill_bytes is None
    assert why_not_mapped(layout) is None
    assert why_not_direct(layout) is None


def test_a_fill_value_that_h5py_cannot_ask_for_is_not_guessed() -> None:
    class Creation:
        fill_value_defined = staticmethod(lambda: h5py.h5d.FILL_VALUE_USER_DEFINED)
        get_fill_time = staticmethod(lambda: h5py.h5d.FILL_TIME_IFSET)

        def get_fill_value(self, value: np.ndarray) -> None:
            raise TypeError(value.dtype)  # so it is with sub-arrays

    assert _layout._read_fill(Creation(), np.dtype("<i2")) is None


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_one_endless_axis_that_is_not_the_first_is_not_mapped(libver: str, tmp_path: Path) -> None:
    path = write_x(tmp_path / "a.h5", chunks=(5, 4), maxshape=(12, None), libver=libver)
    layout = layout_of(path)
    assert (why_not_mapped(layout) or "").startswith("only its axis 1 may grow for ever")
    assert why_not_direct(layout) is None


def test_one_endless_axis_without_a_fill_value_is_left_to_hdf5(tmp_path: Path) -> None:
    layout = layout_of(write_x(tmp_path / "a.h5", chunks=(5, 4), maxshape=(12, None)))
    reason = "chunks of it may never have been written, and it has no fill value to read there"
    assert why_not_direct(replace(layout, fill_bytes=None)) == reason


@pytest.mark.parametrize(
    "maxshape", [(None, 12), (None, None), (12, 20)], ids=["the first", "both", "none"]
)
def test_other_endless_axes_are_mapped(maxshape: tuple[int | None, ...], tmp_path: Path) -> None:
    path = write_x(tmp_path / "a.h5", chunks=(5, 4), maxshape=maxshape, libver="latest")
    assert why_not_mapped(layout_of(path)) is None


def test_wrong_offsets_of_hdf5_would_be_seen(tmp_path: Path) -> None:
    path = write_x(tmp_path / "a.h5", chunks=(5, 4), maxshape=(12, None), libver="latest")
    with h5py.File(path, "r") as file:
        layout = read_layout(file["x"], file)
        try:
            chunk_map = read_chunk_map(file["x"], layout)
        except DamagedFileError:
            return  # HDF5 listed chunks that are not on the grid
        assert not cross_check(file["x"], chunk_map, count=9)


def test_files_open_for_writing_are_not_mapped(tmp_path: Path) -> None:
    path = write_x(tmp_path / "a.h5", **TILED)
    with h5py.File(path, "r+"):
        layout = layout_of(path)
    assert "open for writing" in (why_not_mapped(layout) or "")
    assert why_not_direct(layout) is None


def test_files_read_while_another_writes_are_not_mapped(tmp_path: Path) -> None:
    path = write_x(tmp_path / "a.h5", **TILED, libver="latest")
    assert "SWMR" in (why_not_mapped(layout_of(path, swmr=True)) or "")


def test_other_drivers_are_not_mapped(tmp_path: Path) -> None:
    path = write_x(tmp_path / "a.h5", **TILED)
    layout = layout_of(path, driver="core")
    assert why_not_mapped(layout) == "HDF5 reads the file with its driver 'core'"
    assert why_not_direct(layout) is None


def test_user_blocks_are_not_mapped_with_an_old_hdf5(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=512) as file:
        file.create_dataset("x", data=np.zeros((12, 12)), chunks=(5, 4))
    monkeypatch.setattr(h5py.version, "hdf5_version_tuple", (1, 14, 4))
    assert layout_of(tmp_path / "a.h5").first_byte == 512
    assert why_not_mapped(layout_of(tmp_path / "a.h5")) is None
    monkeypatch.setattr(h5py.version, "hdf5_version_tuple", (1, 14, 3))
    assert "user block" in (why_not_mapped(layout_of(tmp_path / "a.h5")) or "")
    assert why_not_direct(layout_of(tmp_path / "a.h5")) is None


def test_too_many_chunks_are_not_mapped() -> None:
    many = replace(SOUND, shape=(10**12, 12))
    assert "600,000,000,000 chunks" in (why_not_mapped(many) or "")


def test_systems_without_preadv_are_not_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.preadv", raising=False)
    assert "no preadv" in (why_not_mapped(SOUND) or "")
    assert why_not_direct(SOUND) is None


def test_edges_that_may_lack_filters_are_left_to_hdf5() -> None:
    unknown = replace(SOUND, edges_skip_filters=None)
    assert "may have been stored without its filters" in (why_not_mapped(unknown) or "")
    assert "may have been stored without its filters" in (why_not_direct(unknown) or "")
    skipped = replace(SOUND, edges_skip_filters=True)
    assert why_not_mapped(skipped) is None
    assert "were stored without its filters" in (why_not_direct(skipped) or "")


@pytest.mark.parametrize(
    "filters",
    [{"compression": "gzip"}, {"shuffle": True}, {"fletcher32": True}, {"compression": "lzf"}],
    ids=["gzip", "shuffle", "fletcher32", "lzf"],
)
@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_edges_went_through_the_filters_as_h5py_writes_them(
    filters: dict[str, Any], libver: str, tmp_path: Path
) -> None:
    noise = np.frombuffer(np.random.default_rng(0).bytes(576), "<i4").reshape(12, 12)
    path = write_x(tmp_path / "a.h5", noise, **TILED, **filters, libver=libver)
    assert layout_of(path).edges_skip_filters is False


@pytest.mark.parametrize("num_rows", [0, 3], ids=["no chunk", "no edge"])
def test_edges_never_written_are_no_riddle(num_rows: int, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("x", (12, 12), "<i4", chunks=(5, 4), compression="gzip")
        dataset[:num_rows] = 1
    assert layout_of(tmp_path / "a.h5").edges_skip_filters is False


def test_a_failed_experiment_on_edges_leaves_them_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_x(tmp_path / "a.h5", **TILED, shuffle=True)
    monkeypatch.setattr(_layout, "MAX_CHUNK_BYTES", 79)
    assert layout_of(path).edges_skip_filters is None
    monkeypatch.undo()

    def fail(_dataset: h5py.Dataset) -> int:
        raise RuntimeError("no memory")

    monkeypatch.setattr(_layout, "_size_of_edge_with_sum", fail)
    assert layout_of(path).edges_skip_filters is None


def test_chunks_of_edges_stored_without_filters_are_marked_so(tmp_path: Path) -> None:
    with h5py.File(write_x(tmp_path / "a.h5", **TILED, compression="gzip"), "r") as file:
        layout = replace(read_layout(file["x"], file), edges_skip_filters=True)
        masks = read_chunk_map(file["x"], layout).masks.reshape(3, 3)
    assert masks.tolist() == [[0, 0, 0], [0, 0, 0], [ALL_SKIPPED] * 3]  # 12 = 2 x 5 + 2 = 3 x 4


def test_a_real_file_with_edges_stored_without_filters_is_mapped(corpus_dir: Path) -> None:
    path = corpus_dir / FORMAT_CONVERT / "h5fc_edge_v3.h5"
    layout = layout_of(path, "DSET_EDGE")
    assert layout.edges_skip_filters is True
    assert why_not_mapped(layout) is None
    chunk_map = map_of(path, "DSET_EDGE")
    is_skipped = (chunk_map.masks == ALL_SKIPPED).reshape(chunk_map.grid)
    assert is_skipped.tolist() == [[False, True], [False, True], [True, True]]
    assert set(chunk_map.sizes[chunk_map.masks == ALL_SKIPPED].tolist()) == {layout.chunk_bytes}
    assert set(chunk_map.sizes[chunk_map.masks == 0].tolist()) == {15}


def test_a_real_file_with_wrong_offsets_is_not_mapped(corpus_dir: Path) -> None:
    path = corpus_dir / FORMAT_CONVERT / "h5fc_ext_none.h5"
    layout = layout_of(path, "DSET_EA")
    assert "wrong offsets" in (why_not_mapped(layout) or "")
    assert why_not_direct(layout) is None
    for name in ("DSET_FA", "DSET_NONE", "GROUP/DSET_BT2"):
        with h5py.File(path, "r") as file:
            chunk_map = read_chunk_map(file[name], read_layout(file[name], file))
            assert_map_is_right(path, file[name], chunk_map)


@dataclass(frozen=True)
class FakeIndex:
    """Stands for the index of a damaged data set."""

    infos: tuple[tuple[tuple[int, ...], int, int | None, int], ...]

    def chunk_iter(self, visit: Callable[[h5py.h5d.StoreInfo], Any]) -> None:
        for info in self.infos:
            if visit(h5py.h5d.StoreInfo(*info)) is not None:
                return


def map_fake(*infos: tuple[tuple[int, ...], int, int | None, int]) -> ChunkMap:
    dataset = SimpleNamespace(
        id=FakeIndex(infos),
        shape=(12, 12),
        chunks=(5, 4),
        name="/x",
        file=SimpleNamespace(filename="a.h5"),
    )
    return read_chunk_map(dataset, SOUND)


@pytest.mark.parametrize(
    ("origins", "complaint"),
    [
        ([(0, 0), (0, 0)], r"chunk \(0, 0\) twice or out of order"),
        ([(0, 0), (5, 4), (0, 8)], r"chunk \(0, 8\) twice or out of order"),
        ([(0, 0), (0, 5)], r"chunk \(0, 5\), which is not on the grid"),
        ([(0, 0), (15, 0)], r"chunk \(15, 0\), which is not on the grid"),
        ([(0, 2**63)], r"which is not on the grid"),
    ],
    ids=["twice", "backwards", "between", "behind", "far behind"],
)
@pytest.mark.parametrize("block", [1, 2, 8192])
def test_an_index_that_no_sound_file_has_is_refused(
    origins: list[tuple[int, int]], complaint: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_chunk_map, "_BLOCK", block)
    with pytest.raises(DamagedFileError, match=rf"'/x' in 'a\.h5' is damaged.*{complaint}"):
        map_fake(*((place, 0, 4096, 80) for place in origins))


def test_a_chunk_without_an_address_was_never_written() -> None:
    chunk_map = map_fake(((0, 0), 0, 4096, 80), ((0, 4), 0, None, 0))
    assert chunk_map.offsets[:3].tolist() == [4096, -1, -1]


def test_an_index_that_goes_round_in_circles_is_left_early() -> None:
    class Circle:
        seen = 0

        def chunk_iter(self, visit: Callable[[h5py.h5d.StoreInfo], Any]) -> None:
            while visit(h5py.h5d.StoreInfo((0, 0), 0, 4096, 80)) is None:
                self.seen += 1

    circle = Circle()
    file = SimpleNamespace(filename="a.h5")
    dataset = SimpleNamespace(id=circle, shape=(12, 12), chunks=(5, 4), name="/x", file=file)
    with pytest.raises(DamagedFileError, match="twice"):
        read_chunk_map(dataset, SOUND)
    assert circle.seen < 10_000


def test_an_index_damaged_in_the_file_is_refused(tmp_path: Path) -> None:
    path = write_x(tmp_path / "a.h5", np.arange(16, dtype="u1"), chunks=(4,), maxshape=(None,))
    layout = layout_of(path)
    raw = path.read_bytes()
    # The key of the third chunk in a version 1 B-tree: stored bytes, mask, place, element size.
    key, twice = struct.pack("<IIQQ", 4, 0, 8, 0), struct.pack("<IIQQ", 4, 0, 4, 0)
    assert raw.count(key) == 1
    path.write_bytes(raw.replace(key, twice))
    with (
        h5py.File(path, "r") as file,
        pytest.raises(DamagedFileError, match=r"'/x' in .*a\.h5' is damaged: the index"),
    ):
        read_chunk_map(file["x"], layout)


def test_an_index_that_hdf5_cannot_read_is_an_error_that_names_the_data_set(
    tmp_path: Path,
) -> None:
    path = write_x(tmp_path / "a.h5", np.arange(16, dtype="u1"), chunks=(4,), maxshape=(None,))
    layout = layout_of(path)
    path.write_bytes(path.read_bytes().replace(b"TREE\x01", b"EERT\x01"))
    with (
        h5py.File(path, "r") as file,
        pytest.raises(DamagedFileError, match=r"'/x' in .*a\.h5' is damaged.*cannot be read"),
    ):
        read_chunk_map(file["x"], layout)


def test_misplaced_chunks_are_found_and_the_others_stay_readable() -> None:
    most = 2**63 - 1
    chunk_map = map_fake(
        ((0, 0), 0, 4096, 80),
        ((0, 4), 0, 9950, 50),  # ends with the file
        ((0, 8), 0, 9951, 50),  # a byte past it
        ((5, 0), 0, 20_000, 80),
        ((5, 4), 0, 2**64 - 2, 80),  # larger than any offset
        ((5, 8), 0, 4096, 2**64 - 2),
        ((10, 0), 0, 559, 80),  # the superblock, behind a user block
        ((10, 4), 0, 560, 80),
    )
    assert chunk_map.offsets[4] == chunk_map.sizes[5] == most
    assert chunk_map.find_misplaced(512, 10_000).tolist() == [2, 3, 4, 5, 6]
    assert chunk_map.find_misplaced(0, most).tolist() == [4, 5]


def test_a_file_that_was_cut_has_misplaced_chunks_only_behind_the_cut(tmp_path: Path) -> None:
    path = write_x(tmp_path / "a.h5", **TILED)
    chunk_map = map_of(path)
    last = int(chunk_map.offsets.max())
    assert chunk_map.find_misplaced(0, path.stat().st_size).tolist() == []
    assert chunk_map.find_misplaced(0, last + 79).tolist() == [int(chunk_map.offsets.argmax())]


def shifted(chunk_map: ChunkMap, number: int) -> ChunkMap:
    offsets = chunk_map.offsets.copy()
    offsets[number] -= 4
    return ChunkMap(chunk_map.grid, offsets, chunk_map.sizes, chunk_map.masks)


def test_the_cross_check_compares_the_first_the_last_and_one_between(tmp_path: Path) -> None:
    path = write_x(tmp_path / "a.h5", **TILED)
    chunk_map = map_of(path)
    with h5py.File(path, "r") as file:
        assert cross_check(file["x"], chunk_map)
        failed = [n for n in range(9) if not cross_check(file["x"], shifted(chunk_map, n))]
        assert failed == [0, 4, 8]
        assert not cross_check(file["x"], shifted(chunk_map, 3), count=9)


def test_the_cross_check_refuses_a_chunk_that_hdf5_does_not_have(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (12, 12), "<i4", chunks=(5, 4))[:5, :4] = 1
    chunk_map = map_of(tmp_path / "a.h5")
    offsets = np.roll(chunk_map.offsets, 1)
    wrong = ChunkMap(chunk_map.grid, offsets, np.roll(chunk_map.sizes, 1), chunk_map.masks)
    with h5py.File(tmp_path / "a.h5", "r") as file:
        assert cross_check(file["x"], chunk_map)
        assert not cross_check(file["x"], wrong)


def test_the_cross_check_leaves_out_what_lies_past_the_end_of_the_file(tmp_path: Path) -> None:
    path = write_x(tmp_path / "a.h5", **TILED)
    chunk_map = map_of(path)
    offsets = chunk_map.offsets.copy()
    offsets[8] = path.stat().st_size
    cut = ChunkMap(chunk_map.grid, offsets, chunk_map.sizes, chunk_map.masks)
    nothing = np.full(9, -1)
    unwritten = ChunkMap(chunk_map.grid, nothing, chunk_map.sizes, chunk_map.masks)
    with h5py.File(path, "r") as file:
        assert cross_check(file["x"], cut)
        assert cross_check(file["x"], unwritten)
