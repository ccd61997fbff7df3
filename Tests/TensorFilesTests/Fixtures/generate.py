"""Writes the fixtures of the tensor file tests with numpy, ml_dtypes and safetensors.

Run in this folder: python generate.py. The results are committed; the tests need no Python.
"""

import numpy as np
import torch
from ml_dtypes import bfloat16
from safetensors.torch import save_file

FLOATS = [0.0, -0.0, 1.5, -2.25, np.inf, np.nan]
TYPES = {
    "float16": np.float16,
    "bfloat16": bfloat16,
    "float32": np.float32,
    "float64": np.float64,
    "int8": np.int8,
    "int16": np.int16,
    "int32": np.int32,
    "int64": np.int64,
    "uint8": np.uint8,
    "uint16": np.uint16,
    "uint32": np.uint32,
    "uint64": np.uint64,
    "bool": np.bool_,
}


def matrix(name: str) -> np.ndarray:
    """Six values of a type as a 2 by 3 matrix: for integers 0, 1, 2, 100, the least and the greatest."""
    dtype = TYPES[name]
    if name == "bool":
        return np.array([[False, True, True], [False, False, True]])
    if "float" in name:
        return np.array(FLOATS).astype(dtype).reshape(2, 3)
    limits = np.iinfo(dtype)
    return np.array([[0, 1, 2], [100, limits.min, limits.max]], dtype=dtype)


for name in TYPES:
    np.save(f"{name}.npy", matrix(name))

for version in [(2, 0), (3, 0)]:
    with open(f"version{version[0]}.npy", "wb") as file:
        np.lib.format.write_array(file, matrix("float32"), version=version)

np.save("scalar.npy", np.float32(1.5))
np.save("vector.npy", np.arange(5, dtype=np.int32))
np.save("empty.npy", np.zeros((3, 0), dtype=np.float32))
np.save("fortran.npy", np.asfortranarray(matrix("float32")))
np.save("fortran_column.npy", np.zeros((3, 1), dtype=np.float32, order="F"))
np.save("big_endian.npy", np.arange(3, dtype=">f4"))
np.save("object.npy", np.array([None, {}], dtype=object), allow_pickle=True)
np.save("complex.npy", np.zeros(2, dtype=np.complex64))
np.save("text.npy", np.array(["a", "bc"]))
np.save("structured.npy", np.zeros(2, dtype=[("a", "<f4"), ("b", "<i4")]))
np.save("dates.npy", np.zeros(2, dtype="<M8[s]"))

tensors = {}
for name in TYPES:
    array = matrix(name)
    if name == "bfloat16":
        tensors[name] = torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    else:
        tensors[name] = torch.from_numpy(array)
tensors["scalar"] = torch.tensor(1.5)
tensors["empty"] = torch.zeros(3, 0)
tensors["schön:😀"] = torch.arange(3)
tensors["float8"] = torch.zeros(3, dtype=torch.float8_e4m3fn)
save_file(tensors, "all.safetensors", metadata={"format": "pt"})
