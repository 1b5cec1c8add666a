"""nnU-Net's own loader and training transforms in one process, a sample at a time; tests/bench/loader.py drives it.

usage: loader_peer.py STORE FOLDER D,H,W BATCH

STORE is voxeld's prepared store: its voxels are written once more into FOLDER, as nnU-Net's save_case writes them
(blosc2, chunks and blocks by comp_blosc2_params for this patch), so both sides read the same values. Then every line
of standard input is a number of samples to make with nnUNetDataLoader and nnUNetTrainer.get_training_transforms; the
answer is one line per sample, "SPATIAL WALL_NS CPU_NS", and a line of JSON. Hand-over to a trainer process and
deep-supervision targets are left out on this side."""
import json
import os
import shutil
import sys
import time
import types
from pathlib import Path


def prepared(store):
    """name, image [C][z][y][x], seg [1][z][y][x], {label: locations} of each case."""
    import numpy as np
    import zarr
    for folder in sorted((store / "cases").iterdir()):
        if not (folder / "case.json").exists():
            continue
        about = json.loads((folder / "case.json").read_text())
        read = {role: zarr.open_array(str(folder / role), mode="r")[...] for role in ("image", "seg", "locations")}
        rows = np.concatenate([np.zeros((len(read["locations"]), 1), int), read["locations"].astype(int)], axis=1)
        yield (folder.name.rsplit("~", 1)[0], read["image"], read["seg"][None],
               {int(c["key"]): rows[c["first"]:c["first"] + c["locations"]] for c in about["classes"]})


def write(store, folder, patch):
    from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2
    labels = set()
    for name, image, seg, locations in prepared(store):
        blocks, chunks = comp_blosc2_params(image.shape, patch)
        blocks_seg, chunks_seg = comp_blosc2_params(seg.shape, patch, bytes_per_pixel=seg.dtype.itemsize)
        nnUNetDatasetBlosc2.save_case(image, seg, {"class_locations": locations}, str(folder / name), chunks=chunks,
                                      blocks=blocks, chunks_seg=chunks_seg, blocks_seg=blocks_seg)
        labels |= set(locations)
    return sorted(labels)


def make_loader(folder, patch, batch, labels):
    from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.label_handling.label_handling import LabelManager
    trainer = types.SimpleNamespace(configuration_manager=types.SimpleNamespace(patch_size=patch),
                                    print_to_log_file=lambda *_: None)
    rotation, dummy_2d, initial, mirror = \
        nnUNetTrainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size(trainer)
    transforms = nnUNetTrainer.get_training_transforms(patch, rotation, None, mirror, dummy_2d)
    manager = LabelManager({"background": 0, **{str(label): label for label in labels}}, None)
    return nnUNetDataLoader(nnUNetDatasetBlosc2(str(folder)), batch, initial, patch, manager,
                            oversample_foreground_percent=0.33, transforms=transforms)


def try_blurs(transforms, patch):
    """Blur tries FFT against direct convolution once per length and kernel: that is no part of any sample."""
    import numpy as np
    import torch
    from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
    for transform in transforms.transforms:
        blur = getattr(transform, "transform", None)
        if isinstance(blur, GaussianBlurTransform):
            for sigma in np.linspace(0.5, 1, 11):
                for axis in range(3):
                    blur._benchmark_wrapper(torch.rand(1, *patch), sigma, axis)


class Clock:
    """Cuts a batch into samples: one begins where its case is loaded."""

    def __init__(self, loader):
        from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
        self.loader, self.starts, self.spatial = loader, [], []
        load, draw = loader._data.load_case, SpatialTransform.get_parameters

        def timed(name):
            self.starts.append((time.perf_counter_ns(), time.process_time_ns()))
            return load(name)

        def noted(transform, **data):
            parameters = draw(transform, **data)
            self.spatial.append(parameters["affine"] is not None)
            return parameters
        loader._data.load_case, SpatialTransform.get_parameters = timed, noted

    def batch(self):
        self.starts.clear()
        self.spatial.clear()
        first = (time.perf_counter_ns(), time.process_time_ns())
        next(self.loader)
        marks = [first, *self.starts[1:], (time.perf_counter_ns(), time.process_time_ns())]
        return [(spatial, b[0] - a[0], b[1] - a[1]) for spatial, a, b in zip(self.spatial, marks, marks[1:])]


def main():
    store, folder = Path(sys.argv[1]), Path(sys.argv[2])
    patch, batch = [int(n) for n in sys.argv[3].split(",")], int(sys.argv[4])
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ[name] = str(folder)
    import torch
    torch.set_num_threads(1)  # as nnU-Net's workers do
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    labels = write(store, folder, patch)
    loader = make_loader(folder, patch, batch, labels)
    try_blurs(loader.transforms, patch)
    clock = Clock(loader)
    for line in sys.stdin:
        rows = []
        while len(rows) < int(line):
            rows += clock.batch()
        for spatial, wall, cpu in rows:
            print(int(spatial), wall, cpu)
        print("{}", flush=True)


if __name__ == "__main__":
    main()
