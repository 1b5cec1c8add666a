"""What surrounds the steps of a training: folds, initial weights, pseudo-Dice and its moving average."""
import json
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace

from checks import relative


def their_fold(cases, fold, splits):
    """nnUNetTrainer.do_split over these cases; splits: a splits_final.json that is there, or None."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    class Dataset:
        def __init__(self, *_, **__):
            self.identifiers = list(cases)

        get_identifiers = staticmethod(lambda _: list(cases))
    with tempfile.TemporaryDirectory() as tmp:
        if splits:
            (Path(tmp) / "splits_final.json").write_text(json.dumps(splits))
        me = SimpleNamespace(dataset_class=Dataset, fold=fold, preprocessed_dataset_folder=tmp,
                             preprocessed_dataset_folder_base=tmp, folder_with_segs_from_previous_stage=None,
                             print_to_log_file=lambda *_, **__: None)
        return [sorted(map(str, keys)) for keys in nnUNetTrainer.do_split(me)]


def check_folds(checks, program):
    import numpy as np
    rs = np.random.RandomState(2)
    own = lambda cases: [{"train": cases[:4], "val": cases[4:6]}, {"train": cases[2:], "val": cases[1:3]}]
    different, count = [], 0
    for n in (5, 7, 10, 13, 20, 32, 101, 260):
        # names whose order as text is not their order as numbers
        cases = [f"case_{i}" for i in rs.permutation(n)]
        for splits in [None] + ([own(cases)] if n > 6 else []):
            for fold in ["all", 0, 1, 2, 3, 4, 5, 6, 17]:
                with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
                    f.write(json.dumps(splits))
                    f.flush()
                    command = [program, str(fold)] + ([f.name] if splits else [])
                    run = subprocess.run(command, input="\n".join(cases), stdout=subprocess.PIPE, text=True,
                                         check=True)
                ours, count = json.loads(run.stdout), count + 1
                if [sorted(ours["train"]), sorted(ours["val"])] != their_fold(cases, fold, splits):
                    different.append(f"fold {fold} of {n} cases{' of a file' if splits else ''}")
    checks.check("folds 0 to 17 and all, with and without a file, lists that overlap", not different,
                 f"{count - len(different)} of {count} equal {different[:5] or ''}")


def check_start(checks, what, network, names, flat):
    """core/net's initial weights beside those nnU-Net gave to its own network."""
    import numpy as np
    import torch
    from scipy import stats
    constants, kinds, at = [], {}, 0
    for (name, p), own in zip(network.named_parameters(), names):
        ours, theirs, at = flat[at:at + p.numel()], p.detach().numpy().ravel(), at + p.numel()
        if p.ndim < 3:
            constants.append(name == own and np.array_equal(ours, theirs) and len(set(ours.tolist())) == 1)
            continue
        fan_in = torch.nn.init._calculate_fan_in_and_fan_out(p)[0]
        sigma = torch.nn.init.calculate_gain("leaky_relu", 1e-2) / fan_in ** 0.5
        kind = "transposed convolutions" if "transpconv" in name else \
            "heads" if "seg_layers" in name else "convolutions"
        kinds.setdefault(kind, []).append((ours / sigma, theirs / sigma))
    checks.check(f"{what} start: biases 0, norms 1 and 0", all(constants), f"{sum(constants)} of {len(constants)} equal")
    for kind, pairs in kinds.items():
        both = [np.concatenate(side).astype(np.float64) for side in zip(*pairs)]
        n = min(map(len, both))
        # each layer by itself too: one that is too wide may hide among the others
        worst = max(abs(w.std() - 1) * (2 * w.size) ** 0.5 for pair in pairs for w in pair)
        checks.at_most(f"{what} start: deviation of {len(pairs)} {kind} from He's in standard errors",
                       float(worst), 4.5)
        p = stats.ks_2samp(*both).pvalue, stats.kstest(both[0], "norm").pvalue
        checks.check(f"{what} start: {kind} by Kolmogorov-Smirnov", min(p) >= 1e-3,
                     f"p = {p[0]:.3g} beside nnU-Net's, {p[1]:.3g} beside the normal, {n} weights")


def epochs(rs, count=12, classes=3):
    """Batches of (tp, fp, fn) per epoch; a class is absent here and there, once all are."""
    import numpy as np
    for e in range(count):
        rows = [rs.randint(0, 3000, (3, classes)) for _ in range(3)]
        for r in rows:
            r[:, rs.rand(classes) < 0.2] = 0
            r[:, e % (classes + 1):e % (classes + 1) + 1] = 0
        yield [r * (np.arange(classes) != e % 5) for r in rows]


def their_logs(trainer, listed):
    """Lists of nnUNetTrainer's logger after its own on_validation_epoch_end."""
    import warnings
    import numpy as np
    trainer.logger = type(trainer.logger)(None, False)
    for e, batches in enumerate(listed):
        trainer.current_epoch = e
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # 0 / 0 of a class that is absent
            trainer.on_validation_epoch_end([
                {"loss": np.array(0.0), "tp_hard": b[0].astype(np.float32), "fp_hard": b[1].astype(np.float32),
                 "fn_hard": b[2].astype(np.float32)} for b in batches])
    return trainer.logger.local_logger.my_fantastic_logging


def our_logs(program, listed):
    sums = [dict(zip(("tp", "fp", "fn"), sum(batches).tolist())) for batches in listed]
    run = subprocess.run([program], input=json.dumps(sums), stdout=subprocess.PIPE, text=True, check=True)
    return sums, json.loads(run.stdout)


def _near(a, b):
    return (a is None) == (b != b) and (a is None or relative(a, float(b)) < 1e-6)


def check_dice(checks, trainer, program):
    import numpy as np
    listed = list(epochs(np.random.RandomState(4)))
    theirs, (sums, ours) = their_logs(trainer, listed), our_logs(program, listed)
    numbers = [(a, b) for o, t in zip(ours, theirs["dice_per_class_or_region"]) for a, b in zip(o["dice"], t)]
    absent = sum(a is None for a, _ in numbers)
    checks.check("pseudo-Dice of sums over batches", all(_near(a, b) for a, b in numbers),
                 f"{len(numbers)} numbers, {absent} of classes neither predicted nor present")
    for key, name in (("mean", "mean_fg_dice"), ("ema", "ema_fg_dice")):
        checks.check(f"{name} of {len(ours)} epochs", all(_near(o[key], t) for o, t in zip(ours, theirs[name])),
                     f"last {ours[-1][key]:.6f}, nnU-Net {float(theirs[name][-1]):.6f}")
    check_without_foreground(checks, trainer, program, listed)
    none = lambda v: None if v != v else float(v)
    return [{**counts, "dice": [none(v) for v in dice], "mean": float(mean), "ema": float(ema)}
            for counts, dice, mean, ema in zip(sums, theirs["dice_per_class_or_region"], theirs["mean_fg_dice"],
                                               theirs["ema_fg_dice"])]


def check_without_foreground(checks, trainer, program, listed):
    """On purpose not alike: after an epoch without any foreground nnU-Net's average is no number any more, and no
    later epoch can be its best."""
    nothing = listed[:2] + [[0 * b for b in listed[0]]] + listed[2:4]
    theirs, (_, ours) = their_logs(trainer, nothing), our_logs(program, nothing)
    checks.check("an epoch without foreground: nnU-Net's average is lost, voxeld's stays",
                 [t == t for t in theirs["ema_fg_dice"]] == [True, True, False, False, False] and
                 ours[2]["ema"] == ours[1]["ema"] and ours[4]["ema"] is not None)
