"""The transforms of core/augment, each alone and all together, against batchgeneratorsv2.

usage: augment.py PROGRAMS [--golden FOLDER] [transforms] [draws] [sampler]

PROGRAMS is the build's tests/oracle. Parts:
  transforms  the same samples with the same parameters through both (this file)
  draws       how parameters are distributed (draws.py)
  sampler     which cases and places are drawn (sampler.py)
nnU-Net's side is the list of transforms that nnUNetTrainer makes, with its random choices fixed. --golden
writes a few of its results for a test that runs without it."""
import argparse
import inspect
import json
import os
import subprocess
import tempfile
from pathlib import Path

import augment_golden
import draws
import nnunet
import sampler
from checks import Checks, no_peer

LIMIT = 1e-4  # relative L2 and largest difference of images; share of labels

# name, patch, channels; the axes of a patch are (z,) y, x
SETUPS = [
    ("3d", [24, 36, 20], 2),
    ("3d of 40 x 56 x 40", [40, 56, 40], 1),
    ("2d", [56, 40], 2),
    ("2d, +-15 degrees", [60, 32], 1),
    ("dummy 2d", [10, 40, 36], 2),
]
HIPPOCAMPUS = [("Hippocampus 3d", "3d_fullres", [40, 56, 40]), ("Hippocampus 2d", "2d", [56, 40])]


def volume_of(patch):
    return ([1] if len(patch) == 2 else []) + list(patch)


class Sample:
    """One initial patch with a last channel of ones, which is masked where a label is -1: it shows the mask,
    and so the label that is 0 in the end because it was -1 can be told from the others."""

    def __init__(self, name, patch, image, label):
        from trainer import Pipeline
        self.name, self.patch, self.channels = name, patch, len(image) + 1
        self.pipeline = Pipeline(patch, mask=[False] * len(image) + [True])
        import numpy as np
        ones = np.ones((1, *label.shape), np.float32)
        self.image = np.ascontiguousarray(np.concatenate([image, ones]), dtype=np.float32)
        self.label = np.ascontiguousarray(label, dtype=np.int16)

    def task(self, name, params):
        rules = self.pipeline.rules
        return {"name": name, "dims": len(self.patch), "channels": self.channels,
                "patch": volume_of(self.patch), "initial": volume_of(rules["initial"]),
                "dummy_2d": rules["dummy_2d"], "mask_channels": 1 << (self.channels - 1),
                "params": params}

    def write(self, folder, name, image=None):
        (self.image if image is None else image).astype("<f4").tofile(folder / f"{name}.image")
        self.label.astype("<i2").tofile(folder / f"{name}.label")

    def read(self, folder, name):
        """Our image, our label with -1."""
        import numpy as np
        image = np.fromfile(folder / f"{name}.image.out", "<f4").reshape(self.channels, *self.patch)
        label = np.fromfile(folder / f"{name}.label.out", "<i2").reshape(self.patch)
        assert (label >= 0).all()
        return image, np.where(image[-1] == 0, np.int16(-1), label)


def made_up(name, patch, channels, rs):
    """Noise over waves, labels in ragged blocks, -1 along two borders."""
    import numpy as np
    from trainer import configured
    size = configured(patch)["initial"]
    at = np.meshgrid(*[np.arange(n, dtype=np.float32) for n in size], indexing="ij")
    waves = sum(np.sin(a / (3 + i)) for i, a in enumerate(at))
    image = np.stack([waves * (1 + c) + rs.uniform(-1, 1, size) for c in range(channels)])
    label = sum((a // (5 + i)).astype(int) for i, a in enumerate(at)) % 4
    scatter = rs.rand(*size) < 0.05
    label = np.where(scatter, rs.randint(0, 4, size), label)
    label[..., :5] = -1
    label[..., -3:, :] = -1
    return Sample(name, patch, image, label)


def hippocampus(name, configuration, patch, data):
    """The middle of a real case as nnU-Net prepares and crops it: the patch sticks out on all sides."""
    import numpy as np
    from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
    from trainer import configured
    golden = json.loads((Path(__file__).parent / "golden" / "Dataset004_Hippocampus.json").read_text())
    case = nnunet.cases_of(data)["hippocampus_003"]
    with nnunet.quiet():
        image, seg, _ = nnunet.Preprocessor(golden["plans"], configuration, golden["dataset"]).run(
            case["images"], case["label"])
    size = volume_of(configured(patch)["initial"])
    box = [[(n - s) // 2, (n - s) // 2 + s] for n, s in zip(image.shape[1:], size)]
    image = crop_and_pad_nd(image, box, 0)
    label = crop_and_pad_nd(seg, box, -1, cast_cropped_to=np.int16)[0]
    if len(patch) == 2:
        image, label = image[:, 0], label[0]
    return Sample(name, patch, image, label)


def parameters(sample, rs):
    """(what, params) of every transform; numbers are floats of 32 bits, as core/augment holds them."""
    import numpy as np
    f = lambda *lo_hi: float(np.float32(rs.uniform(*lo_hi)))
    each = lambda lo, hi: [f(lo, hi) for _ in range(sample.channels)]
    some = lambda lo, hi, last: each(lo, hi)[:-1] + [last]
    hi = float(np.float32(sample.pipeline.rules["rotation"][1]))
    angles = lambda: [f(-hi, hi) for _ in range(len(volume_of(sample.patch)))]
    planar = len(sample.patch) == 2 or sample.pipeline.rules["dummy_2d"]
    # with one angle alone, or a scale of 1.4, whole planes of positions lie halfway between two voxels: then
    # the last bit of a coordinate decides all their labels. Drawn parameters never do that.
    one_axis = lambda i: [f(-hi, hi) if a == i else 0.0 if planar else f(0.01, 0.02) for a in range(3)]
    yield "nothing", {}
    for i in range(1 if planar else 3):
        yield f"rotation around axis {i}", {"angle": one_axis(i)}
    if not planar:
        yield "rotation", {"angle": angles()}
    for scale in (0.701, 1.399, rs.uniform(0.7, 1.4)):
        yield f"scaling {scale:.4g}", {"scale": float(np.float32(scale))}
    for i in range(3):
        yield f"rotation and scaling {i}", {"angle": one_axis(0) if planar else angles(), "scale": f(0.7, 1.4)}
    sigmas = lambda: [[f(0.5, 1) for _ in range(3)] for _ in range(sample.channels - 1)] + [None]
    yield "blur", {"blur": sigmas()}
    yield "blur, least and largest sigma", {"blur": [[0.5, 1.0, 0.75]] * (sample.channels - 1) + [None]}
    yield "brightness", {"brightness": some(0.75, 1.25, 1.0)}
    yield "contrast lowered", {"contrast": some(0.75, 1, 1.0)}
    yield "contrast raised", {"contrast": some(1, 1.25, 1.0)}
    for zoom in (0.5, 1.0, 46 / 56, rs.uniform(0.5, 1), rs.uniform(0.5, 1)):
        yield f"low resolution {zoom:.3g}", {"lowres": [float(np.float32(zoom))] * (sample.channels - 1) + [None]}
    for name in ("gamma", "gamma_inverted"):
        yield f"{name} below 1", {name: some(0.7, 1, 1.0)}
        yield f"{name} above 1", {name: some(1, 1.5, 1.0)}
    for bits in range(1, 8):
        if bits & ~sum(1 << (a + 3 - len(sample.patch)) for a in sample.pipeline.rules["mirror_axes"]) == 0:
            yield f"mirror {bits:03b}", {"mirror": bits}
    whole = {"blur": sigmas(), "brightness": some(0.75, 1.25, 1.0), "contrast": some(0.75, 1.25, 1.0),
             "lowres": some(0.5, 1, None), "gamma_inverted": some(0.7, 1.5, 1.0),
             "gamma": some(0.7, 1.5, 1.0), "mirror": 6}
    yield "all in order, in place", whole
    yield "all in order", {"angle": one_axis(0), "scale": f(0.7, 1.4), **whole}


def differences(ours, theirs):
    """(relative L2, largest difference by the largest value), the worst channel of each."""
    import numpy as np
    l2 = large = 0.0
    for a, b in zip(ours.astype(np.float64), theirs.astype(np.float64)):
        l2 = max(l2, np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-300))
        large = max(large, np.abs(a - b).max() / max(np.abs(b).max(), 1e-300))
    return l2, large


def exact_votes(sample, params, at):
    """The interpolated share of each label at voxels `at` of the patch, in double precision."""
    import numpy as np
    from batchgeneratorsv2.transforms.spatial.spatial import create_affine_matrix_2d, create_affine_matrix_3d
    rules, dims = sample.pipeline.rules, len(sample.patch)
    planar = dims == 2 or rules["dummy_2d"]
    angles, scale = params.get("angle", [0, 0, 0]), params.get("scale", 1.0)
    matrix = np.eye(dims)
    matrix[-2 if planar else 0:, -2 if planar else 0:] = create_affine_matrix_2d(angles[0], [scale] * 2) if planar \
        else create_affine_matrix_3d(angles, [scale] * 3)
    patch, size = np.array(sample.patch), np.array(rules["initial"])
    position = (at - (patch - 1) / 2) @ matrix.T + (size - 1) / 2
    low = np.floor(position + 1e-9).astype(int)
    votes = {}
    for corner in np.ndindex(*[2] * dims):
        where = low + corner
        weight = np.prod(np.where(corner, position - low, 1 - (position - low)), axis=1)
        inside = np.all((where >= 0) & (where < size), axis=1)
        label = np.where(inside, sample.label[tuple(np.clip(where, 0, size - 1).T)], -1)
        for value in np.unique(label):
            votes[value] = votes.get(value, 0) + weight * (label == value)
    return np.stack(list(votes.values()))


def check_labels(checks, what, sample, params, ours, theirs):
    """Equal labels, but where the two largest votes are one step of half precision apart or less: there the
    last bit of a coordinate decides, in both."""
    import numpy as np
    different = np.argwhere(ours != theirs)
    if not checks.at_most(f"{what}: labels that differ, share", len(different) / ours.size, LIMIT,
                          f"{len(different)} of {ours.size}") or len(different) == 0:
        return
    if params.get("mirror") or not ("angle" in params or "scale" in params):
        checks.check(f"{what}: why labels differ", False, "nothing was interpolated")
        return
    votes = np.sort(exact_votes(sample, params, different), axis=0)
    gap = (votes[-1] - votes[-2]).max() * 1000
    checks.at_most(f"{what}: gap of the two largest votes where labels differ, of 1000", gap, 0.3)


def check_sample(checks, program, sample, rs):
    import torch
    with tempfile.TemporaryDirectory() as tmp:
        folder, tasks = Path(tmp), []
        for i, (what, params) in enumerate(parameters(sample, rs)):
            tasks.append((what, sample.task(f"task{i}", params)))
            sample.write(folder, f"task{i}")
        tasks += noise_tasks(folder, sample)
        (folder / "tasks.json").write_text(json.dumps([t for _, t in tasks]))
        subprocess.run([program, folder], check=True)
        with torch.no_grad():
            for what, task in tasks:
                if what is None:
                    continue
                for fft in (False, True) if "blur" in task["params"] else (False,):
                    sample.pipeline.blur_by(fft)
                    check_task(checks, folder, sample, f"{sample.name} {what}{' by FFT' if fft else ''}", task)
        check_noise(checks, folder, sample)


def check_task(checks, folder, sample, what, task):
    sample.pipeline.fix(task["params"], sample.channels)
    theirs, label = sample.pipeline.run(sample.image, sample.label, keep_outside=True)
    ours, our_label = sample.read(folder, task["name"])
    l2, large = differences(ours[:-1], theirs[:-1])
    checks.at_most(f"{what}: image, relative L2", l2, LIMIT, f"largest {large:.2g}")
    l2, _ = differences(*(x[-1:] * (our_label == label) for x in (ours, theirs)))
    checks.at_most(f"{what}: masked channel where labels agree, relative L2", l2, LIMIT)
    check_labels(checks, what, sample, task["params"], our_label, label)


def noise_tasks(folder, sample):
    """Zeros with noise of deviation 1 are the normal numbers themselves; a second sample has the same ones."""
    import numpy as np
    sample.write(folder, "normal", np.zeros_like(sample.image))
    sample.write(folder, "noise")
    sample.write(folder, "other", np.zeros_like(sample.image))
    return [(None, sample.task("normal", {"noise": 1.0, "seed": 7})),
            (None, sample.task("noise", {"noise": float(np.float32(0.07)), "seed": 7})),
            (None, sample.task("other", {"noise": 1.0, "seed": 8}))]


def check_noise(checks, folder, sample):
    import numpy as np
    import torch
    from scipy import stats
    from trainer import normal_numbers
    shape = (sample.channels, *sample.patch)
    values = np.fromfile(folder / "normal.image.out", "<f4").reshape(shape)
    other = np.fromfile(folder / "other.image.out", "<f4").reshape(shape)
    # the last channel is masked: its normal numbers are not known, and not compared
    params = {"noise": float(np.float32(0.07))}
    sample.pipeline.fix(params, sample.channels)
    with torch.no_grad(), normal_numbers(values):
        theirs, _ = sample.pipeline.run(sample.image, sample.label)
    ours = np.fromfile(folder / "noise.image.out", "<f4").reshape(shape)
    l2, large = differences(ours[:-1], theirs[:-1])
    checks.at_most(f"{sample.name} noise of the same normal numbers: image, relative L2", l2, LIMIT,
                   f"largest {large:.2g}")
    x, y = values[:-1].astype(np.float64), other[:-1].astype(np.float64)
    n = x.size
    checks.at_most(f"{sample.name} noise: mean in standard errors", abs(x.mean()) * n ** 0.5, 4)
    checks.at_most(f"{sample.name} noise: variance in standard errors", abs(x.var() - 1) * (n / 2) ** 0.5, 4)
    p = stats.kstest(x.ravel(), "norm").pvalue
    checks.check(f"{sample.name} noise: normal by Kolmogorov-Smirnov", p >= 1e-3, f"p = {p:.3g}, {n} values")
    torch.manual_seed(1)
    p = stats.ks_2samp(x.ravel(), torch.empty(n).normal_().numpy()).pvalue
    checks.check(f"{sample.name} noise: as torch's by Kolmogorov-Smirnov", p >= 1e-3, f"p = {p:.3g}")
    lags = {f"axis {a - 1}": (x * np.roll(x, 1, axis=a)).mean() for a in range(1, x.ndim)}
    lags["another seed"] = (x * y).mean()
    if len(x) > 1:
        lags["the channels"] = (x[0] * x[1]).mean()
    worst = max(lags, key=lambda k: abs(lags[k]))
    checks.at_most(f"{sample.name} noise: correlation with neighbours in standard errors",
                   abs(lags[worst]) * n ** 0.5, 4.5, f"the largest is with {worst}")


def check_transforms(checks, args):
    import numpy as np
    rs = np.random.RandomState(3)
    data = Path(os.environ.get("VOXELD_TEST_DATA", "../shared/data")) / "Dataset004_Hippocampus"
    for name, patch, channels in SETUPS:
        check_sample(checks, args.programs / "oracle_augment", made_up(name, patch, channels, rs), rs)
    for name, configuration, patch in HIPPOCAMPUS:
        if not (data / "dataset.json").exists():
            checks.skip(name, f"there is no {data}; set VOXELD_TEST_DATA")
            continue
        check_sample(checks, args.programs / "oracle_augment", hippocampus(name, configuration, patch, data), rs)


def refuse_older():
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
    if "seg_tiebreak" not in inspect.signature(SpatialTransform.__init__).parameters:
        no_peer("batchgeneratorsv2 turns labels by its older rule; voxeld follows 0.3.6")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("programs", type=Path)
    parser.add_argument("--golden", type=Path)
    parser.add_argument("parts", nargs="*")
    args = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as tmp:
        nnunet.use(tmp, tmp)
        refuse_older()
        import torch
        torch.set_num_threads(2)
        checks = Checks()
        parts = args.parts or ["transforms", "draws", "sampler"]
        if args.golden:
            augment_golden.write(args.golden / "augment.json")
        if "transforms" in parts:
            check_transforms(checks, args)
        if "draws" in parts:
            draws.check(checks, args.programs / "oracle_draws")
        if "sampler" in parts:
            sampler.check(checks, args.programs / "oracle_sampler")
    checks.end(stage="augment", versions=nnunet.versions())


if __name__ == "__main__":
    main()
