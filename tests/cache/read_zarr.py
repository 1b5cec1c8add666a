"""Opens a voxeld store with zarr-python and compares every array with the raw bytes the test wrote.

Usage: read_zarr.py STORE CASE_FOLDER RAW_FOLDER; RAW_FOLDER holds image.bin, seg.bin and locations.bin."""
import sys

import numpy as np
import zarr

store, folder, raw = sys.argv[1:]
root = zarr.open_group(store, mode="r")
case = root["cases"][folder]
for name, dtype in (("image", "<f4"), ("seg", "<i2"), ("locations", "<i4")):
    array = case[name]
    wanted = np.fromfile(f"{raw}/{name}.bin", dtype=dtype).reshape(array.shape)
    assert array.dtype == np.dtype(dtype), (name, array.dtype)
    assert np.array_equal(array[...], wanted), name
    assert all(a >= b for a, b in zip(array.shards, array.shape)), (name, "one shard", array.shards)
part = case["image"][:, 3:9, 5:11, 2:4]
assert part.shape[1:] == (6, 6, 2), part.shape
print("zarr", zarr.__version__, "agrees")
