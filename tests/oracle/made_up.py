"""Four made-up data sets, the same bytes in every voxel on every machine (numpy's RandomState is frozen).

Each is there for rules that the real volumes do not reach:
  901  anisotropic CT, large volumes, small files: separate axis, slice thickness by percentile, 3d_lowres
  902  thin stacks along x: transpose, dummy 2D; an ignore label; a case without the second label
  903  four channels with zeros around: crop, holes, masked normalisation, four of its five kinds
  904  one giant among small ones, RGB-like: batch size against the data set's size, the fifth kind"""
import json

import nibabel
import numpy as np

NAMES = ["Dataset901_AnisotropicCT", "Dataset902_ThinStacks", "Dataset903_FourChannels",
         "Dataset904_OneGiant"]


def _distance(shape, centre, radius):
    """Squared distance from centre in units of radius; all three in halves of the volume's edges."""
    out = np.zeros(shape, np.float32)
    for axis, n in enumerate(shape):
        u = ((np.arange(n, dtype=np.float32) * 2 + 1) / n - 1 - centre[axis]) / radius[axis]
        out += (u * u).reshape([-1 if a == axis else 1 for a in range(3)])
    return out


def _blobs(rs, shape, n, radius=0.3):
    labels = np.zeros(shape, np.uint8)
    for value in range(1, n + 1):
        centre = rs.randint(-400, 401, 3) / 1000.0
        labels[_distance(shape, centre, [radius / value ** 0.5] * 3) < 1] = value
    return labels


def _noise(rs, shape, amplitude):
    return rs.randint(-amplitude, amplitude + 1, shape).astype(np.int16)


def _save(path, array, spacing):
    """array and spacing: z, y, x. World axes as scanners have them (LPS)."""
    affine = np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])
    image = nibabel.Nifti1Image(array.transpose(2, 1, 0), affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def _write(root, name, channels, labels, cases):
    folder = root / name
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "labelsTr").mkdir()
    n = 0
    for case, spacing, images, seg in cases:
        for c, image in enumerate(images):
            _save(folder / "imagesTr" / f"{case}_{c:04d}.nii.gz", image, spacing)
        _save(folder / "labelsTr" / f"{case}.nii.gz", seg, spacing)
        n += 1
    (folder / "dataset.json").write_text(json.dumps({
        "channel_names": {str(i): c for i, c in enumerate(channels)}, "labels": labels,
        "numTraining": n, "file_ending": ".nii.gz",
        "description": "made up for tests: geometric bodies, no patients"}, indent=1))
    return folder


def _anisotropic_ct(rs):
    for i, (slices, thickness) in enumerate([(44, 5.0), (52, 5.0), (40, 6.0), (61, 2.0), (48, 4.0)]):
        shape = (slices, 512 - 16 * (i % 2), 512)
        seg = _blobs(rs, shape, 2)
        body = _distance(shape, (0, 0, 0), (2, 0.8, 0.9)) < 1
        image = np.where(body, np.int16(40), np.int16(-1000))
        inside = seg > 0
        image[inside] += (seg[inside] * 60).astype(np.int16) + _noise(rs, int(inside.sum()), 30)
        yield f"ct_{i:02d}", (thickness, 0.8, 0.8 - 0.05 * (i == 2)), [image], seg


def _thin_stacks(rs):
    for i in range(10):
        shape = (150 + 3 * i, 170 - 4 * i, 12 + i % 4)
        seg = _blobs(rs, shape, 1 if i == 4 else 2)
        seg[:3][seg[:3] == 0] = 3  # not annotated
        image = 300 + 90 * seg.astype(np.int16) + _noise(rs, shape, 80)
        image[:, :, 0] //= 2
        yield f"stack_{i:02d}", (0.7, 0.7 + 0.05 * (i % 3), 6.0 + i % 3), [image], seg


def _four_channels(rs):
    for i in range(6):
        shape = (66 + 2 * i, 80 - 3 * i, 58 + i)
        seg = _blobs(rs, shape, 3, 0.35)
        body = _distance(shape, (0.05, 0, -0.1), (0.7, 0.75, 0.65)) < 1
        hole = _distance(shape, (-0.3, 0.3, 0.1), (0.1, 0.1, 0.1)) < 1
        seg[~body] = 0
        images = []
        for c, gain in enumerate([1.5, 1.0, 0.25, 2.0]):
            values = gain * (150 + 40.0 * ((seg * (c + 1)) % 4) + 100 * rs.random_sample(shape))
            images.append(np.where(body & ~hole, values, 0).astype(np.float32))
        yield f"four_{i:02d}", (1.2, 1.0, 1.0 + 0.1 * (i % 2)), images, seg


def _one_giant(rs):
    for i in range(10):
        shape = (200, 220, 180) if i == 6 else (24 + i, 33 - i, 28 + i % 3)
        seg = _blobs(rs, shape, 2, 0.45)
        image = (20 + 80 * seg + rs.randint(0, 50, shape)).astype(np.uint8)
        yield f"case_{i:02d}", (1.0 + 0.1 * (i % 3), 1.0, 1.0), [image], seg


def write(root, name):
    """Makes one of NAMES below root; returns its folder."""
    seed = int(name[7:10])
    background = {"background": 0}
    parts = {
        901: (["CT"], {**background, "first": 1, "second": 2}, _anisotropic_ct),
        902: (["T2"], {**background, "first": 1, "second": 2, "ignore": 3}, _thin_stacks),
        903: (["T1", "CT", "noNorm", "rescale_to_0_1"],
              {**background, "first": 1, "second": 2, "third": 3}, _four_channels),
        904: (["rgb_to_0_1"], {**background, "first": 1, "second": 2}, _one_giant),
    }
    channels, labels, cases = parts[seed]
    return _write(root, name, channels, labels, cases(np.random.RandomState(seed)))
