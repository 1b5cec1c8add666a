"""nnU-Net's checkpoints: ours through its predictor, its networks and its pretrained-weights rule, its own through our
reader.

usage: pth.py FOLDER_OF_PROGRAMS"""
import copy
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

from checks import Checks, compare, no_peer

try:
    import numpy as np
    import torch
except ImportError as e:
    no_peer(f"PyTorch is not installed ({e})")

import nnunet

HERE = Path(__file__).resolve().parent
LOGITS = 1e-4  # the limit on a relative difference of logits
checks = Checks()


def golden(name):
    document = json.loads((HERE / "golden" / f"{name}.json").read_text())
    return document["plans"], document["dataset"]


def cases():
    """name -> plans, dataset.json, configuration, channels and classes of a network worth a look."""
    hippocampus, dataset = golden("Dataset004_Hippocampus")
    yield "2d", hippocampus, dataset, "2d"
    yield "3d", hippocampus, dataset, "3d_fullres"
    # six stages, kernels and strides that differ per axis, three channels, five classes; made small
    plans, dataset = copy.deepcopy(golden("Dataset901_AnisotropicCT"))
    config = plans["configurations"]["3d_fullres"]
    plans["configurations"] = {"3d_fullres": config}
    config["patch_size"] = [16, 64, 96]
    config["architecture"]["arch_kwargs"]["features_per_stage"] = [8, 16, 24, 32, 40, 48]
    config["normalization_schemes"] = ["CTNormalization", "ZScoreNormalization", "ZScoreNormalization"]
    config["use_mask_for_norm"] = [False, True, True]
    properties = plans["foreground_intensity_properties_per_channel"]
    properties.update({"1": properties["0"], "2": properties["0"]})
    dataset["channel_names"] = {"0": "CT", "1": "b", "2": "a"}
    dataset["labels"] = {"background": 0, "z": 1, "b": 2, "a": 3, "c": 4}
    yield "anisotropic", plans, dataset, "3d_fullres"


def their_network(plans, dataset, configuration, deep_supervision):
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
    config = PlansManager(plans).get_configuration(configuration)
    return get_network_from_plans(config.network_arch_class_name, config.network_arch_init_kwargs,
                                  config.network_arch_init_kwargs_req_import, len(dataset["channel_names"]),
                                  len(dataset["labels"]), allow_init=False, deep_supervision=deep_supervision)


def floats(path):
    return np.fromfile(path, dtype="<f4")


def flat(tensors):
    return np.concatenate([t.detach().numpy().astype("<f4").ravel() for t in tensors])


def same_bits(a, b):
    return a.shape == b.shape and a.tobytes() == b.tobytes()


# --- ours through nnU-Net ---

def ours(programs, name, plans, dataset, configuration, folder):
    flat_network = configuration == "2d"
    mirror = [1, 2] if flat_network else [0, 1, 2]  # axes of arrays; nnU-Net counts within the network's
    job = {"configuration": configuration, "fold": "0", "classes": len(dataset["labels"]), "seed": 5,
           "mirror_axes": mirror, "epoch": 1000}
    for file, content in (("plans", plans), ("dataset", dataset), ("job", job)):
        (folder / f"{file}.json").write_text(json.dumps(content))
    subprocess.run([programs / "oracle_pth", "write", "cpu", folder], check=True)
    path = folder / "checkpoint.pth"
    safe, full = torch.load(path, weights_only=True), torch.load(path, weights_only=False)
    checks.check(f"{name}: torch.load(weights_only=True)", list(safe) == list(full))

    net = their_network(plans, dataset, configuration, True)
    said = net.load_state_dict(full["network_weights"], strict=True)
    order = list(net.state_dict()) == list(full["network_weights"])
    checks.check(f"{name}: state_dict, strictly and in order", str(said) == "<All keys matched successfully>" and order,
                 f"{len(full['network_weights'])} keys")
    checks.check(f"{name}: parameters bit for bit", same_bits(flat(net.parameters()), floats(folder / "params.bin")))
    shared = full["network_weights"]
    pairs = [(k, k.replace("decoder.encoder.", "encoder.").replace("all_modules.0", "conv").replace("all_modules.1", "norm"))
             for k in shared]
    checks.check(f"{name}: aliases share memory", all(shared[a].data_ptr() == shared[b].data_ptr() for a, b in pairs))

    optimizer = torch.optim.SGD(net.parameters(), 1e-2, weight_decay=3e-5, momentum=0.99, nesterov=True)
    optimizer.load_state_dict(full["optimizer_state"])
    buffers = [optimizer.state[p].get("momentum_buffer", torch.zeros_like(p)) for p in net.parameters()]
    checks.check(f"{name}: momentum bit for bit", same_bits(flat(buffers), floats(folder / "momentum.bin")))

    words = {k: full[k] for k in ("trainer_name", "current_epoch", "_best_ema", "grad_scaler_state",
                                  "inference_allowed_mirroring_axes")}
    axes = tuple(a - 1 for a in mirror) if flat_network else tuple(mirror)
    want = {"trainer_name": "nnUNetTrainer", "current_epoch": 1000, "_best_ema": 0.75, "grad_scaler_state": None,
            "inference_allowed_mirroring_axes": axes}
    init = full["init_args"]
    text = json.dumps([init["plans"], init["dataset_json"]]) == json.dumps([plans, dataset])
    checks.check(f"{name}: words, and the order of their keys", words == want and text and init["fold"] == 0, str(axes))

    patch = plans["configurations"][configuration]["patch_size"]
    images = torch.from_numpy(floats(folder / "images.bin")).reshape(1, len(dataset["channel_names"]), *patch)
    got = floats(folder / "logits.bin").astype(np.float64)
    net.eval()
    with torch.no_grad():
        theirs = net(images)[0].double().numpy().ravel()
    checks.at_most(f"{name}: logits of nnU-Net's network", np.linalg.norm(got - theirs) / np.linalg.norm(theirs), LOGITS,
                   f"{theirs.size} numbers, largest {np.abs(got - theirs).max():.2g} of {np.abs(theirs).max():.3g}")
    predictor(name, folder, plans, dataset, images, got)
    pretrained(name, plans, dataset, configuration, path, full)
    logger(name, folder, full)


def predictor(name, folder, plans, dataset, images, got):
    """The model folder as voxeld publishes it, opened as nnUNetv2_predict opens it."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    model = folder / "voxeld__nnUNetPlans__x"
    (model / "fold_0").mkdir(parents=True)
    (model / "plans.json").write_text(json.dumps(plans))
    (model / "dataset.json").write_text(json.dumps(dataset))
    (model / "fold_0" / "checkpoint_final.pth").write_bytes((folder / "checkpoint.pth").read_bytes())
    with nnunet.quiet():
        p = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
        p.initialize_from_trained_model_folder(str(model), (0,), "checkpoint_final.pth")
    p.network.eval()
    with torch.no_grad():
        logits = p.network(images).double().numpy().ravel()
    checks.at_most(f"{name}: logits of nnUNetPredictor", np.linalg.norm(got - logits) / np.linalg.norm(logits), LOGITS)


def pretrained(name, plans, dataset, configuration, path, full):
    from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
    net = their_network(plans, dataset, configuration, True)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with nnunet.quiet():
        load_pretrained_weights(net, str(path))
    want = [before[k] if ".seg_layers." in k else v for k, v in full["network_weights"].items()]
    checks.check(f"{name}: nnUNetv2_train -pretrained_weights", same_bits(flat(net.state_dict().values()), flat(want)))


def logger(name, folder, full):
    from nnunetv2.training.logging.nnunet_logger import LocalLogger
    log = LocalLogger()
    keys = set(log.get_checkpoint())
    log.load_checkpoint(full["logging"])
    checks.check(f"{name}: the logger's lists", keys == set(full["logging"]) and
                 log.get_value("mean_fg_dice", 0) == 0.75 and np.isnan(full["logging"]["mean_fg_dice"][1]))


# --- nnU-Net's own through ours ---

class Trainer(SimpleNamespace):
    """As much of a trainer as nnUNetTrainer.save_checkpoint looks at."""


def save(trainer, path):
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    Trainer.__name__ = "nnUNetTrainer"
    nnUNetTrainer.save_checkpoint(trainer, str(path))


def their_trainer(plans, dataset, configuration, folder):
    """After a step of SGD with nnU-Net's logger and scaler."""
    from nnunetv2.training.logging.nnunet_logger import MetaLogger
    net = their_network(plans, dataset, configuration, True)
    optimizer = torch.optim.SGD(net.parameters(), 1e-2, weight_decay=3e-5, momentum=0.99, nesterov=True)
    patch = plans["configurations"][configuration]["patch_size"]
    torch.manual_seed(1)
    for p in net.parameters():
        p.data.copy_(torch.randn_like(p) * 0.1)
    heads = net(torch.randn(1, len(dataset["channel_names"]), *patch))
    sum(h.square().mean() for h in heads[:-1]).backward()  # the coarsest head has no part in nnU-Net's loss
    optimizer.step()
    log = MetaLogger(str(folder), False)
    rng = np.random.RandomState(2)
    for epoch in range(3):
        dice = [np.float64(x) for x in rng.rand(len(dataset["labels"]) - 1)]
        dice[0] = np.nan if epoch == 1 else dice[0]
        log.log("mean_fg_dice", np.nanmean(dice), epoch)
        log.log("dice_per_class_or_region", dice, epoch)
        log.log("train_losses", np.float32(rng.rand()), epoch)
        log.log("val_losses", np.mean(rng.rand(4).astype(np.float32)), epoch)
        log.log("lrs", 0.01 * (1 - epoch / 1000) ** 0.9, epoch)
        log.log("epoch_start_timestamps", 1.7e9 + epoch, epoch)
        log.log("epoch_end_timestamps", 1.7e9 + epoch + 0.5, epoch)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(torch.tensor(1.0))  # it makes its state at the first use
    flat_network = configuration == "2d"
    return Trainer(local_rank=0, disable_checkpointing=False, is_ddp=False, network=net, optimizer=optimizer,
                   grad_scaler=scaler, logger=log, _best_ema=log.get_value("ema_fg_dice", 2), current_epoch=2,
                   my_init_kwargs={"plans": plans, "configuration": configuration, "fold": 3, "dataset_json": dataset,
                                   "device": torch.device("cuda")},
                   inference_allowed_mirroring_axes=(0, 1) if flat_network else (0, 1, 2))


def without_nan(x):
    """Lists of numbers as JSON has them: a NaN is null, numpy's numbers are Python's."""
    if isinstance(x, (list, tuple)):
        return [without_nan(i) for i in x]
    return None if np.isnan(x) else float(x)


def compare_words(name, said, trainer):
    log = {k: without_nan(v) for k, v in trainer.logger.get_checkpoint().items()}
    n, differences = compare(said["logging"], log)
    checks.check(f"{name}: logging of theirs", not differences, f"{n} fields {differences[:2]}")
    init = trainer.my_init_kwargs
    ordered = json.dumps([said["plans"], said["dataset_json"]]) == json.dumps([init["plans"], init["dataset_json"]])
    axes = [a + (init["configuration"] == "2d") for a in trainer.inference_allowed_mirroring_axes]
    words = {"trainer_name": "nnUNetTrainer", "configuration": init["configuration"], "fold": "3", "mirror_axes": axes}
    numbers = said["current_epoch"] == 3 and said["best_ema"] == said["ema"] == float(trainer._best_ema)
    checks.check(f"{name}: words of theirs", ordered and said["network"] == words and numbers, str(said["network"]))


def theirs(programs, name, plans, dataset, configuration, folder):
    trainer = their_trainer(plans, dataset, configuration, folder)
    path = folder / "theirs.pth"
    save(trainer, path)
    subprocess.run([programs / "oracle_pth", "read", path, folder], check=True)
    said = json.loads((folder / "result.json").read_text())
    names, params = zip(*trainer.network.named_parameters())
    shapes = [list(p.shape) if p.dim() != 4 else [*p.shape[:2], 1, *p.shape[2:]] for p in params]
    checks.check(f"{name}: names and shapes of theirs", said["names"] == list(names) and said["shapes"] == shapes,
                 f"{len(names)} parameters")
    checks.check(f"{name}: parameters of theirs bit for bit", same_bits(floats(folder / "params.bin"), flat(params)))
    buffers = [trainer.optimizer.state[p].get("momentum_buffer") for p in params]
    checks.check(f"{name}: nnU-Net left the coarsest head alone", buffers[-1] is not None and
                 [n for n, b in zip(names, buffers) if b is None] == ["decoder.seg_layers.0.weight", "decoder.seg_layers.0.bias"])
    buffers = [torch.zeros_like(p) if b is None else b for p, b in zip(params, buffers)]
    checks.check(f"{name}: momentum of theirs bit for bit", same_bits(floats(folder / "momentum.bin"), flat(buffers)))
    compare_words(name, said, trainer)
    half_and_wrapped(programs, name, trainer.network, folder)


def half_and_wrapped(programs, name, net, folder):
    """float16 copies under the names that DistributedDataParallel and torch.compile give, aliases not shared."""
    weights = {f"module._orig_mod.{k}": v.half() for k, v in net.state_dict().items()}
    torch.save({"network_weights": weights, "trainer_name": "nnUNetTrainer"}, folder / "half.pth")
    subprocess.run([programs / "oracle_pth", "read", folder / "half.pth", folder], check=True)
    want = flat([p.half().float() for p in net.parameters()])
    checks.check(f"{name}: float16, wrapped names, aliases as copies", same_bits(floats(folder / "params.bin"), want))


def main():
    programs = Path(sys.argv[1])
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as tmp:
        nnunet.use(tmp, tmp)
        for name, plans, dataset, configuration in cases():
            folder = Path(tmp) / name
            folder.mkdir()
            ours(programs, name, plans, dataset, configuration, folder)
            theirs(programs, name, plans, dataset, configuration, folder)
    checks.end(torch=torch.__version__)


main()
