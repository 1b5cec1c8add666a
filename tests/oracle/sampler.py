"""Which cases and places are drawn: core/loader's sampler against nnUNetDataLoader.

Where nothing is left to chance (a class of one voxel, the bounds of a random place) results are equal; the
rest are distributions: counts by chi-square, places by Kolmogorov-Smirnov, p at least 0.001, seeds fixed."""
import json
import os
import subprocess
import tempfile
import warnings
from pathlib import Path
from types import SimpleNamespace

import nnunet

DRAWS = 10_000  # forced and unforced samples each
LEAST_P = 1e-3
STREAMS = ("training", "validation")


class Locations(dict):
    """class_locations that remember which class was looked at last: the one a place was chosen from."""
    last = None

    def __getitem__(self, key):
        self.last = key
        return super().__getitem__(key)


class Case:
    """shape, {class: voxels}; annotated adds nnU-Net's key of all annotated voxels under an ignore label."""

    def __init__(self, shape, classes, annotated=None):
        import numpy as np
        self.shape, self.classes, self.annotated = [int(n) for n in shape], classes, annotated
        key = tuple([-1, 0] + sorted(classes))
        every = {**classes, **({} if annotated is None else {key: annotated})}
        self.locations = Locations({k: np.insert(np.reshape(v, (-1, 3)), 0, 0, axis=1) for k, v in every.items()})

    def json(self):
        lists = [list(map(list, v)) for v in self.classes.values()]
        return {"shape": self.shape, "classes": lists + ([] if self.annotated is None else [self.annotated])}


class Setting:
    def __init__(self, name, patch, cases, batch=2, stream=0, ignore=False, batches=1, seed=1):
        self.name, self.patch, self.cases, self.batch, self.stream = name, patch, cases, batch, stream
        self.ignore, self.batches, self.seed = ignore, batches, seed

    def json(self):
        first = len(self.cases[0].classes)
        return {"name": self.name, "patch": self.patch, "batch": self.batch, "has_ignore": self.ignore,
                "annotated": first if self.cases[0].annotated is not None else -1, "stream": self.stream,
                "seed": self.seed, "batches": self.batches, "cases": [c.json() for c in self.cases]}

    def loader(self):
        from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
        from trainer import configured
        labels = [0] + sorted(self.cases[0].classes)
        size = configured(self.patch)["initial"] if self.stream == 0 else self.patch
        return nnUNetDataLoader(
            SimpleNamespace(identifiers=list(range(len(self.cases)))), self.batch, size, self.patch,
            SimpleNamespace(all_labels=labels, has_ignore_label=self.ignore),
            oversample_foreground_percent=0.33)

    def theirs(self):
        """Rows as oracle_sampler writes them, without the size."""
        import numpy as np
        loader, rows = self.loader(), []
        for _ in range(self.batches):
            for j, case in enumerate(loader.get_indices()):
                forced = loader.get_do_oversample(j)
                c = self.cases[case]
                c.locations.last = None
                low, high = loader.get_bbox(np.array(c.shape), forced, c.locations)
                # an unforced place under an ignore label has a voxel, but no class
                chosen = list(c.locations).index(c.locations.last) if forced and self.any_class(c) else -1
                rows.append([case, forced, chosen, *low, *[h - l for l, h in zip(low, high)]])
        return np.array(rows)

    def any_class(self, case):
        return any(len(v) for v in dict(case.locations).values())


def drawn_cases(rs, count, patch):
    """Shapes around the patch's, below it on some axes; one class may be absent, one case has none."""
    for i in range(count):
        shape = [int(n * rs.uniform(0.5, 2)) + 1 for n in patch]
        voxels = lambda n: [[int(rs.randint(s)) for s in shape] for _ in range(n)]
        yield Case(shape, {1: voxels(30 if i else 0), 2: voxels(rs.randint(1, 80) if i > 1 else 0)})


def annotated_cases(rs, count, patch):
    for i in range(count):
        shape = [int(n * rs.uniform(0.8, 2)) + 1 for n in patch]
        voxels = lambda n: [[int(rs.randint(s)) for s in shape] for _ in range(n)]
        yield Case(shape, {1: voxels(20 if i > 1 else 0)}, annotated=voxels(40 if i else 0))


def hippocampus(data, configuration):
    golden = json.loads((Path(__file__).parent / "golden" / "Dataset004_Hippocampus.json").read_text())
    peer = nnunet.Preprocessor(golden["plans"], configuration, golden["dataset"])
    listed = nnunet.cases_of(data)
    for name in sorted(listed)[:6]:
        with nnunet.quiet():
            image, _, properties = peer.run(listed[name]["images"], listed[name]["label"])
        yield Case(image.shape[1:], {k: v[:, 1:].tolist() for k, v in properties["class_locations"].items()})


def distributions(rs):
    third = lambda batch: -(-DRAWS // (batch - round(batch * 0.67)))
    made = lambda name, patch, make, **k: Setting(name, patch, list(make(rs, 5, [1] * (3 - len(patch)) + patch)),
                                                  batches=third(k.get("batch", 2)), **k)
    yield made("drawn 3d", [12, 16, 14], drawn_cases, seed=3)
    yield made("drawn 3d, batch 5", [12, 16, 14], drawn_cases, batch=5, stream=1, seed=4)
    yield made("drawn 2d", [20, 14], drawn_cases, batch=7, seed=5)
    yield made("drawn, dummy 2d", [5, 16, 18], drawn_cases, batch=3, seed=6)
    yield made("ignore label", [12, 16, 14], annotated_cases, batch=4, ignore=True, seed=7)
    data = Path(os.environ.get("VOXELD_TEST_DATA", "../shared/data")) / "Dataset004_Hippocampus"
    if (data / "dataset.json").exists():
        for stream, seed in ((0, 8), (1, 9)):
            yield Setting(f"Hippocampus 3d {STREAMS[stream]}", [40, 56, 40], list(hippocampus(data, "3d_fullres")),
                          batches=third(2), stream=stream, seed=seed)
        yield Setting("Hippocampus 2d training", [56, 40], list(hippocampus(data, "2d")), batch=40,
                      batches=third(40), seed=10)


def certain(rs, count):
    """Settings whose forced places are one voxel's: class 1 has one, class 2 none."""
    for i in range(count):
        dims = rs.randint(2, 4)
        patch = [int(rs.randint(6, 40)) for _ in range(dims)]
        shape = [int(rs.randint(1, 90)) for _ in range(3)]
        voxel = [[int(rs.randint(s)) for s in shape]]
        yield Setting(f"certain{i}", patch, [Case(shape, {1: voxel, 2: []})], stream=int(rs.randint(2)), seed=i)


def narrow(rs, count):
    """Settings with few random places: the patch is nearly as large as the case, or larger."""
    for i in range(count):
        dims = rs.randint(2, 4)
        patch = [int(rs.randint(8, 60)) for _ in range(dims)]
        shape = [max(1, n + int(rs.randint(-n // 2, 9))) for n in [1] * (3 - dims) + patch]
        yield Setting(f"narrow{i}", patch, [Case(shape, {1: []})], stream=int(rs.randint(2)), batches=200, seed=i)


def bounds(setting):
    """First and last place of nnU-Net's random ones, by drawing the ends of its ranges."""
    import numpy as np
    loader, before, ends = setting.loader(), np.random.randint, []
    try:
        for end in (lambda low, high: low, lambda low, high: high - 1):
            np.random.randint = end
            ends.append(loader.get_bbox(np.array(setting.cases[0].shape), False, None)[0])
    finally:
        np.random.randint = before
    return ends


def check_certain(checks, settings, places):
    import numpy as np
    forced = [(s, places(s)[1], s.theirs()[1]) for s in settings]
    different = [f"{s.patch} in {s.cases[0].shape}: {a.tolist()}, nnU-Net {b.tolist()}" for s, a, b in forced
                 if not np.array_equal(a, b)]
    checks.check("places around a given voxel", not different, f"{len(forced) - len(different)} of {len(forced)} equal")
    for line in different[:10]:
        print(f"    {line}")


def check_narrow(checks, settings, places):
    import numpy as np
    different = []
    for s in settings:
        got = places(s)[:, 3:6]
        low, high = bounds(s)
        if not np.array_equal(got.min(0), low) or not np.array_equal(got.max(0), high):
            different.append(f"{s.patch} in {s.cases[0].shape}: {got.min(0)} to {got.max(0)}, nnU-Net {low} to {high}")
    checks.check("first and last of the random places", not different,
                 f"{len(settings) - len(different)} of {len(settings)} equal")
    for line in different[:10]:
        print(f"    {line}")


def same_counts(checks, what, ours, theirs):
    """Two lists of categories."""
    import numpy as np
    from scipy import stats
    kinds = np.unique(np.concatenate([ours, theirs]))
    table = np.array([[(side == k).sum() for k in kinds] for side in (ours, theirs)])
    p = stats.chi2_contingency(table).pvalue if len(kinds) > 1 else 1.0
    checks.check(what, p >= LEAST_P, f"p = {p:.3g}: {table[0].tolist()}, nnU-Net {table[1].tolist()}")


def check_distribution(checks, s, ours, theirs):
    import numpy as np
    from scipy import stats
    checks.check(f"{s.name}: which samples of a batch are forced, size of the patch",
                 np.array_equal(ours[:, [1, 6, 7, 8]], theirs[:, [1, 6, 7, 8]]),
                 f"{ours[:s.batch, 1].tolist()} {ours[0, 6:].tolist()}")
    same_counts(checks, f"{s.name}: cases", ours[:, 0], theirs[:, 0])
    # samples of one batch are drawn together in nnU-Net: with replacement, as if alone
    both = [r[::s.batch, 0] * len(s.cases) + r[s.batch - 1::s.batch, 0] for r in (ours, theirs)]
    same_counts(checks, f"{s.name}: cases of first and last sample together", *both)
    for forced in (0, 1):
        a, b = (r[r[:, 1] == forced][:DRAWS] for r in (ours, theirs))
        kind = "forced" if forced else "random"
        if forced:
            same_counts(checks, f"{s.name}: class by case", *(r[:, 0] * 16 + r[:, 2] for r in (a, b)))
        for axis in range(3):
            x, y = a[:, 3 + axis], b[:, 3 + axis]
            p = stats.ks_2samp(x, y).pvalue
            checks.check(f"{s.name}: {kind} places along axis {axis}", p >= LEAST_P and len(x) == len(y) == DRAWS,
                         f"p = {p:.3g} of {len(x)}, {x.min()} to {x.max()}, nnU-Net {y.min()} to {y.max()}")


def check(checks, program):
    import numpy as np
    rs = np.random.RandomState(6)
    groups = list(certain(rs, 300)), list(narrow(rs, 200)), list(distributions(rs))
    with tempfile.TemporaryDirectory() as tmp:
        folder = Path(tmp)
        (folder / "settings.json").write_text(json.dumps([s.json() for g in groups for s in g]))
        subprocess.run([program, folder], check=True)
        places = lambda s: np.fromfile(folder / f"{s.name}.places", "<i4").reshape(-1, 9)
        check_certain(checks, groups[0], places)
        check_narrow(checks, groups[1], places)
        for s in groups[2]:
            np.random.seed(s.seed)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a case without annotated voxels is among them
                check_distribution(checks, s, places(s), s.theirs())
