"""Planning of drawn fingerprints: many corners of the rules without any volumes."""
import json
import subprocess
from pathlib import Path

import nnunet
from checks import compare

NAME = "Dataset999_Drawn"


def _draw(rs):
    """One data set as its fingerprint: from microscopy to whole bodies, isotropic to thick slices."""
    n_cases, channels, labels = rs.randint(5, 400), rs.randint(1, 5), rs.randint(2, 20)
    spacing = 10 ** rs.uniform(-1, 0.5) * 10 ** rs.uniform(-0.15, 0.15, 3)
    shape = 10 ** rs.uniform(rs.choice([1.1, 2.2]), 2.8, 3)
    if rs.rand() < 0.5:  # thick slices
        axis = rs.randint(3)
        spacing[axis] *= rs.uniform(1.5, 12)
        shape[axis] = 10 ** rs.uniform(0, 2)
    if rs.rand() < 0.3:  # a square plane: equal spacings tie
        spacing[rs.randint(3)] = spacing[rs.randint(3)]
    listed = min(n_cases, 30)
    vary = rs.choice([0, 0.05, 0.4])
    spacings = spacing * 10 ** (vary * rs.uniform(-1, 1, (listed, 3)))
    shapes = (shape * 10 ** (vary * rs.uniform(-1, 1, (listed, 3)))).clip(1, 800).astype(int)
    names = [["CT", "MRI", "noNorm", "rescale_to_0_1", "rgb_to_0_1", "PET"][rs.randint(6)]
             for _ in range(channels)]
    intensity = {k: float(rs.rand()) for k in ("max", "mean", "median", "min", "percentile_00_5",
                                               "percentile_99_5", "std")}
    override = [float(s) for s in spacing * rs.uniform(0.5, 2, 3)] if rs.rand() < 0.3 else None
    return {
        "dataset": {"channel_names": {str(i): c for i, c in enumerate(names)}, "numTraining": int(n_cases),
                    "labels": {"background": 0, **{f"l{i}": i for i in range(1, labels)}},
                    "file_ending": ".nii.gz"},
        "fingerprint": {"spacings": spacings.tolist(), "shapes_after_crop": shapes.tolist(),
                        "foreground_intensity_properties_per_channel":
                            {str(i): intensity for i in range(channels)},
                        "median_relative_size_after_cropping": float(rs.uniform(0.4, 1))},
        "gpu_memory_gb": float(rs.choice([8, 8, 4, 11, 24, 80])), "spacing": override,
    }


def _theirs(task, raw, preprocessed):
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import \
        ExperimentPlanner
    (raw / NAME / "dataset.json").write_text(json.dumps(task["dataset"]))
    (preprocessed / NAME / "dataset_fingerprint.json").write_text(json.dumps(task["fingerprint"]))
    (preprocessed / NAME / "nnUNetPlans.json").unlink(missing_ok=True)
    with nnunet.quiet():
        ExperimentPlanner(NAME, task["gpu_memory_gb"],
                          overwrite_target_spacing=task["spacing"]).plan_experiment()
    return json.loads((preprocessed / NAME / "nnUNetPlans.json").read_text())


def check(checks, program, raw, preprocessed, count, seed=1):
    import nibabel
    import numpy as np
    for folder in (raw / NAME / "imagesTr", raw / NAME / "labelsTr", preprocessed / NAME):
        folder.mkdir(parents=True)
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.eye(4)),
                 raw / NAME / "imagesTr" / "a_0000.nii.gz")
    rs = np.random.RandomState(seed)
    tasks = [_draw(rs) for _ in range(count)]
    run = subprocess.run([program], input=json.dumps(tasks), stdout=subprocess.PIPE, text=True, check=True)
    fields, different, lowres = 0, [], 0
    for i, (task, ours) in enumerate(zip(tasks, json.loads(run.stdout))):
        theirs = _theirs(task, raw, preprocessed)
        lowres += "3d_lowres" in theirs["configurations"]
        n, found = compare(ours, theirs)
        fields += n
        if found:
            different.append(f"fingerprint {i} (of seed {seed}): {'; '.join(found[:4])}")
    checks.check(f"plans.json of {count} drawn fingerprints", not different,
                 f"{count - len(different)} of {count} equal, {fields} fields, {lowres} with 3d_lowres")
    for line in different[:20]:
        print(f"    {line}")
