"""Reading the voxels of training samples: voxeld beside nnU-Net's data set class, same cases, same samples.

usage: cache.py VOXELD BENCH_CACHE [--rounds N] [--samples N] [--set NAME]

nnU-Net opens the case, unpickles its properties, and cuts the enlarged initial patch out of the blosc2 arrays (205 cubed
for a patch of 128 cubed), whatever the transform is. voxeld draws the transform first and reads the box that it
samples. nnU-Net's files are written by its own save_case from the arrays of voxeld's store, so both hold the same voxels.
Also the same box out of either: voxeld's beside an array that nnU-Net keeps open.

Rounds take turns. Times are medians over rounds of milliseconds per sample; cold: a case's files are dropped from the page
cache (posix_fadvise) before each sample. Bytes decoded by blosc2 are the blocks that a box touches."""
import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "oracle"))
import nnunet  # noqa: E402

TARGETS = {"decoded": 2, "warm": 2, "cold": 1.5, "box": 1, "size": 1.1}


class Voxeld:
    def __init__(self, program, store, patch, samples):
        self.child = subprocess.Popen([program, store, ",".join(map(str, patch)), str(samples)],
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.boxes = json.loads(self.child.stdout.readline())

    def run(self, mode, first, last):
        self.child.stdin.write(f"{mode} {first} {last}\n")
        self.child.stdin.flush()
        return json.loads(self.child.stdout.readline())

    def close(self):
        self.child.stdin.close()
        self.child.wait()


def drop(folder, case):
    for suffix in (".b2nd", "_seg.b2nd", ".pkl"):
        fd = os.open(folder / (case + suffix), os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def device_bytes():
    return int(next(line for line in open("/proc/self/io") if line.startswith("read_bytes")).split()[1])


def blocks(array, lo, hi):
    """Bytes of the blocks of a blosc2 array that [lo, hi) touches, channels included."""
    total = 0
    chunks, block = array.chunks, array.blocks
    counts = []
    for axis, (a, b) in enumerate(zip((0, *lo), (array.shape[0], *hi))):
        a, b = max(a, 0), min(b, array.shape[axis])
        touched = set()
        for v in range(a, b):
            touched.add((v // chunks[axis], v % chunks[axis] // block[axis]))
        counts.append(len(touched))
    total = math.prod(counts) * math.prod(block) * array.dtype.itemsize
    return total


class Peer:
    """nnU-Net's own reading, as generate_train_batch does it before the transforms."""

    def __init__(self, folder, boxes):
        import torch
        from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
        from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
        torch.set_num_threads(1)
        self.torch, self.crop = torch, crop_and_pad_nd
        self.folder, self.boxes = folder, boxes
        self.dataset = nnUNetDatasetBlosc2(str(folder))
        self.open = {case: self.dataset.load_case(case) for case in {b["case"] for b in boxes}}

    def cut(self, data, seg, lo, hi):
        import numpy as np
        box = [[a, b] for a, b in zip(lo, hi)]
        image = self.torch.from_numpy(self.crop(data, box, 0)).float()
        label = self.torch.from_numpy(self.crop(seg, box, -1, cast_cropped_to=np.int16)).to(self.torch.int16)
        return image, label

    def sample(self, box):
        data, seg, _, properties = self.dataset.load_case(box["case"])
        return self.cut(data, seg, box["initial_lo"], box["initial_hi"])

    def same_box(self, box):
        data, seg, _, _ = self.open[box["case"]]
        return self.cut(data, seg, box["lo"], box["hi"])

    def run(self, mode, first, last):
        seconds, device = 0.0, device_bytes()
        read = self.same_box if mode == "box" else self.sample
        for box in self.boxes[first:last]:
            if mode == "cold":
                drop(self.folder, box["case"])
            start = time.perf_counter()
            read(box)
            seconds += time.perf_counter() - start
        n = last - first
        return {"ms": seconds * 1e3 / n, "device": (device_bytes() - device) / n}

    def decoded(self):
        """Bytes of the initial patch, and of the box, per sample."""
        sums = [0, 0]
        for box in self.boxes:
            for array in self.open[box["case"]][:2]:
                sums[0] += blocks(array, box["initial_lo"], box["initial_hi"])
                sums[1] += blocks(array, box["lo"], box["hi"])
        return [s / len(self.boxes) for s in sums]


def convert(store, patch, folder):
    """nnU-Net's files of every case of the store."""
    import numpy as np
    import zarr
    from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2
    folder.mkdir()
    for case in sorted(p for p in (store / "cases").iterdir() if "~" in p.name):
        about = json.loads((case / "case.json").read_text())
        image = np.asarray(zarr.open_array(case / "image", mode="r")[...])
        seg = np.asarray(zarr.open_array(case / "seg", mode="r")[...])[None]
        places = np.asarray(zarr.open_array(case / "locations", mode="r")[...], dtype=np.int64)
        places = np.concatenate([np.zeros((len(places), 1), np.int64), places], 1)
        classes = {int(c["key"]): places[c["first"]:c["first"] + c["locations"]] for c in about["classes"]
                   if c["key"].isdigit()}
        shapes = [comp_blosc2_params(a.shape, tuple(patch), a.itemsize) for a in (image, seg)]
        nnUNetDatasetBlosc2.save_case(image, seg, {"class_locations": classes, "spacing": about["spacing"]},
                                      str(folder / about["name"]), blocks=shapes[0][0], chunks=shapes[0][1],
                                      blocks_seg=shapes[1][0], chunks_seg=shapes[1][1])
    os.sync()


def total(paths):
    return sum(p.stat().st_size for p in paths)


def check_equal(voxeld, peer, store):
    """The peer's arrays hold what the store holds: one box of each case, byte for byte."""
    import numpy as np
    import zarr
    for box in {b["case"]: b for b in voxeld.boxes}.values():
        [case] = store.glob(f"cases/{box['case']}~*")
        image = np.asarray(zarr.open_array(case / "image", mode="r")[...])
        want = peer.crop(image, [[a, b] for a, b in zip(box["lo"], box["hi"])], 0)
        got, _ = peer.same_box(box)
        assert np.array_equal(got.numpy(), want), box


def measure(name, voxeld_program, bench, raw, spacing, patch, samples, rounds, work):
    plans = work / f"{name}.plans.json"
    with open(plans, "w") as out:
        subprocess.run([voxeld_program, "plan", *(["--spacing", spacing] if spacing else []), raw], check=True, stdout=out)
    subprocess.run([voxeld_program, "prepare", "--raw", raw, "--out", work / f"{name}.store", "--plans",
                    adapt(plans, patch)], check=True, stdout=subprocess.DEVNULL)
    [manifest] = (work / f"{name}.store").glob("voxeld/*/manifest.json")
    store = manifest.parent
    with nnunet.quiet():
        convert(store, patch, work / f"{name}.nnunet")
    ours = Voxeld(bench, store, patch, samples)
    peer = Peer(work / f"{name}.nnunet", ours.boxes)
    check_equal(ours, peer, store)
    turns = {"warm": (ours, "warm"), "peer_warm": (peer, "warm"), "open": (ours, "open"), "peer_box": (peer, "box"),
             "cold": (ours, "cold"), "peer_cold": (peer, "cold")}
    got = {turn: [] for turn in turns}
    part = max(1, samples // rounds)
    for round_ in range(rounds + 1):
        for turn, (who, mode) in turns.items():
            first = 0 if round_ == 0 else (round_ - 1) * part
            result = who.run(mode, first, first + part)
            if round_ > 0:  # the first warms up
                got[turn].append(result)
        print(f"{name} round {round_}: " + ", ".join(f"{t} {v[-1]['ms']:.3f}" for t, v in got.items() if v), file=sys.stderr)
    ours.close()
    median = {turn: statistics.median(r["ms"] for r in results) for turn, results in got.items()}
    within = lambda a, b: statistics.median(x["ms"] / y["ms"] for x, y in zip(got[a], got[b]))
    mean = lambda turn, key: statistics.mean(r[key] for r in got[turn])
    decoded = peer.decoded()
    sizes = [total(store.glob("cases/*/image/c/0/0/0/0")) + total(store.glob("cases/*/seg/c/0/0/0")),
             total((work / f"{name}.nnunet").glob("*.b2nd"))]
    r = {"decoded": decoded[0] / mean("warm", "decoded"), "warm": within("peer_warm", "warm"),
         "cold": within("peer_cold", "cold"), "box": within("peer_box", "warm"), "size": sizes[0] / sizes[1]}
    return {"set": name, "patch": "x".join(map(str, patch)), "samples": part * rounds,
            "cases": len({b["case"] for b in ours.boxes}),
            "ms": {k: round(v, 4) for k, v in median.items()},
            "decoded_kb": round(mean("warm", "decoded") / 1e3, 1), "peer_decoded_kb": round(decoded[0] / 1e3, 1),
            "peer_box_decoded_kb": round(decoded[1] / 1e3, 1), "read_kb": round(mean("warm", "read") / 1e3, 1),
            "device_kb_cold": round(mean("cold", "device") / 1e3, 1),
            "peer_device_kb_cold": round(mean("peer_cold", "device") / 1e3, 1),
            "store_mb": round(sizes[0] / 1e6, 2), "peer_store_mb": round(sizes[1] / 1e6, 2),
            "ratios": {k: round(v, 3) for k, v in r.items()},
            "missed": [k for k, v in r.items() if (v > TARGETS[k] if k == "size" else v < TARGETS[k])]}


def adapt(plans, patch):
    """The plan with the patch that is measured."""
    document = json.loads(plans.read_text())
    document["configurations"]["3d_fullres"]["patch_size"] = list(patch)
    plans.write_text(json.dumps(document))
    return plans


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("voxeld")
    parser.add_argument("bench")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--samples", type=int, default=0, help="0: 2000 small ones, 160 large ones")
    parser.add_argument("--set", default="")
    args = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    data = Path(os.environ["VOXELD_TEST_DATA"]).resolve()
    figures = []
    with tempfile.TemporaryDirectory() as tmp:
        work = Path(tmp)
        nnunet.use(tmp, tmp)
        subprocess.run([args.voxeld, "phantom", "--out", work, "--name", "Dataset901_CT", "--ct", "--cases", "3", "--shape",
                        "200,400,400", "--spacing", "1.5,0.8,0.8", "--seed", "5"], check=True, stdout=subprocess.DEVNULL)
        sets = [("phantom CT", work / "Dataset901_CT", None, (128, 128, 128), 160),
                ("Hippocampus", data / "Dataset004_Hippocampus", None, (40, 56, 40), 2000),
                # about 85x190x190 voxels, which hold the enlarged initial patch (77x154x154) of this one
                ("SarcomaCT resampled", data / "Dataset101_SarcomaCT", "2,0.8,0.8", (48, 96, 96), 320)]
        for name, raw, *how in sets:
            if args.set in name and raw.is_dir():
                how[-1] = args.samples or how[-1]
                figures.append(measure(name, args.voxeld, args.bench, raw, *how, args.rounds, work))
    reached = not any(f["missed"] for f in figures)
    first = figures[0]
    print(json.dumps({"name": "cache", "unit": "ms to read a sample, warm", "value": first["ms"]["warm"],
                      "peer": first["ms"]["peer_warm"], "ratio": first["ratios"]["warm"], "targets": TARGETS,
                      "sets": figures, "versions": nnunet.versions(), "max_rss_mb":
                      resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                      "machine": os.environ.get("VXB_MACHINE", ""), "commit": os.environ.get("VXB_COMMIT", ""),
                      "reached": reached}))
    sys.exit(0 if reached else 1)


if __name__ == "__main__":
    main()
