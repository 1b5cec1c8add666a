#!/usr/bin/env python3
"""Plans that people bring, from outside: configurations of their own drive jobs, contradictions are refused by name,
and a job keeps the plan it began with.

  edited_plans.py VOXELD
"""
import copy
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from voxeld import PHANTOM, Daemon, phantom, wait_for  # noqa: E402

SIZE = ("--cases", "6", "--shape", "20,20,20", "--labels", "2", "--channels", "2", "--seed", "3")
TINY = {"type": "train", "dataset": PHANTOM, "plans": "mine", "inference": {"mirroring": False},
        "training": {"epochs": 1, "iterations_per_epoch": 3, "val_iterations_per_epoch": 1}}


def expect(condition, what):
    if not condition:
        raise SystemExit(f"edited_plans: {what}")


def network(config, dims, features):
    """A small network for one of the planner's configurations."""
    args = config["architecture"]["arch_kwargs"]
    n = len(features)
    args.update(n_stages=n, features_per_stage=features, kernel_sizes=[[3] * dims] * n,
                strides=[[1] * dims] + [[2] * dims] * (n - 1), n_conv_per_stage=[2] * n,
                n_conv_per_stage_decoder=[1] * (n - 1))


def edited(planned):
    plans = copy.deepcopy(planned)
    plans["plans_name"] = "mine"
    configs = plans["configurations"]
    network(configs["2d"], 2, [8, 16])
    network(configs["3d_fullres"], 3, [8, 16])
    configs["3d_fullres"].update(patch_size=[16, 16, 16], batch_size=2)
    configs["2d"].update(patch_size=[16, 16], batch_size=6)
    configs["batch3"] = {"inherits_from": "3d_fullres", "batch_size": 3, "batch_dice": True}
    configs["res"] = copy.deepcopy(configs["3d_fullres"])
    configs["res"]["architecture"]["network_class_name"] = "somewhere.ResidualEncoderUNet"
    return plans


def check_own_configurations(daemon, state, plans):
    for configuration, fold, batch in (("batch3", 0, 3), ("2d", "all", 6)):
        job = daemon.finished(daemon.submit({**TINY, "configuration": configuration, "fold": fold}), 120)
        expect(job["state"] == "succeeded", f"{configuration}: {job['state']} {job['reason']}")
        place = state / "results" / PHANTOM / f"voxeld__mine__{configuration}" / f"fold_{fold}"
        expect(Path(job["result"]["results_path"]) == place, f"{job['result']['results_path']}, wanted {place}")
        published = json.loads((place / "plans.json").read_text())
        expect(published["plans_name"] == "mine", "the published plans have another name")
        got = published["configurations"][configuration]
        expect(got["batch_size"] == batch, f"{configuration}: batch {got['batch_size']}")
        expect(got["architecture"]["arch_kwargs"] == plans["configurations"].get(
            "3d_fullres" if configuration == "batch3" else configuration)["architecture"]["arch_kwargs"],
               f"{configuration}: another network was published")
        n_cases = job["result"]["validation"]["cases"]
        expect(n_cases == (6 if fold == "all" else 2), f"{n_cases} cases were validated")


def check_refusals(daemon, write, plans):
    """(change, code of the job's reason, words of its message)"""
    def contradict(p):
        p["configurations"]["3d_fullres"]["patch_size"] = [17, 16, 16]

    def channels(p):
        p["foreground_intensity_properties_per_channel"].popitem()
        for c in ("2d", "3d_fullres", "res"):
            p["configurations"][c]["normalization_schemes"].pop()
            p["configurations"][c]["use_mask_for_norm"].pop()

    def renamed(p):
        p["plans_name"] = "nnUNetPlans"

    cases = [(contradict, "batch3", "invalid_plans", "patch_size"), (channels, "batch3", "plans_mismatch", "channels"),
             (renamed, "batch3", "plans_name", "mine"), (None, "res", "unsupported_plans", "ResidualEncoderUNet"),
             (None, "batch4", "unknown_configuration", "batch3")]
    for change, configuration, code, word in cases:
        bad = copy.deepcopy(plans)
        if change:
            change(bad)
        write(bad)
        job = daemon.finished(daemon.submit({**TINY, "configuration": configuration, "fold": 1}), 30)
        reason = job["reason"] or {}
        expect(job["state"] == "failed" and reason["code"] == code and word in reason["message"],
               f"{code}: {job['state']} {reason}")
    job = daemon.finished(daemon.submit({**TINY, "plans": "theirs"}), 30)
    expect(job["reason"]["code"] == "unknown_plans", f"{job['reason']}")


def check_own_planning(daemon, state):
    """nnU-Net's memory target and target spacing, as wishes of a job."""
    wish = {"type": "prepare", "dataset": PHANTOM, "plans": "coarse", "plan": {"spacing": [2, 1.5, 1], "gpu_memory_gb": 2}}
    job = daemon.submit(wish)
    done = daemon.finished(job, 60)
    expect(done["state"] == "succeeded", f"planning anew: {done['state']} {done['reason']}")
    plans = json.loads((state / "jobs" / str(job) / "plans.json").read_text())
    config = plans["configurations"]["3d_fullres"]
    expect(plans["plans_name"] == "coarse" and config["spacing"] == [2, 1.5, 1], f"{plans['plans_name']} {config['spacing']}")
    expect(config["data_identifier"] == "coarse_3d_fullres", config["data_identifier"])
    done = daemon.finished(daemon.submit({**wish, "plans": "mine"}), 30)
    expect(done["reason"]["code"] == "plans_exist", f"{done['reason']}")


def check_plan_is_kept(voxeld, daemon, work, write, plans):
    """The plan is edited while a job runs and the daemon is killed: the job ends as it began."""
    write(plans)
    spec = {**TINY, "configuration": "batch3", "fold": 2,
            "training": {"epochs": 4, "iterations_per_epoch": 40, "val_iterations_per_epoch": 2}}
    job = daemon.submit(spec)
    wait_for("an epoch", lambda: daemon.get(f"/v1/jobs/{job}/epochs")["epochs"], 60)
    changed = copy.deepcopy(plans)
    changed["configurations"]["batch3"]["batch_size"] = 5
    write(changed)
    daemon.stop()
    daemon = Daemon(voxeld, work)
    done = daemon.finished(job, 120)
    expect(done["state"] == "succeeded", f"after the edit: {done['state']} {done['reason']}")
    published = json.loads((Path(done["result"]["results_path"]) / "plans.json").read_text())
    expect(published["configurations"]["batch3"]["batch_size"] == 3, "the job ended with a plan edited meanwhile")
    return daemon


def main():
    voxeld = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        phantom(voxeld, work / "data", PHANTOM, *SIZE)
        daemon = Daemon(voxeld, work)
        try:
            expect(daemon.register()["state"] == "ready", "the data set is not ready")
            plans = edited(daemon.get(f"/v1/datasets/{PHANTOM}/plans"))
            preprocessed = work / "state" / "preprocessed" / PHANTOM
            preprocessed.mkdir(parents=True, exist_ok=True)

            def write(p):
                (preprocessed / "mine.json").write_text(json.dumps(p))

            write(plans)
            check_own_configurations(daemon, work / "state", plans)
            check_own_planning(daemon, work / "state")
            check_refusals(daemon, write, plans)
            daemon = check_plan_is_kept(voxeld, daemon, work, write, plans)
        finally:
            daemon.stop()
    print("edited_plans: ok")


if __name__ == "__main__":
    main()
