"""The peer: nnU-Net's own fingerprint, planner, splits and preprocessor through its Python interface."""
import contextlib
import io
import os
from pathlib import Path

from checks import no_peer


def use(raw, preprocessed):
    """Points nnU-Net at its folders and imports it; ends the script as skipped where it is absent."""
    os.environ.update(nnUNet_raw=str(raw), nnUNet_preprocessed=str(preprocessed),
                      nnUNet_results=str(preprocessed), nnUNet_def_n_proc="1")
    try:
        import nnunetv2  # noqa: F401
        import nibabel  # noqa: F401
    except ImportError as e:
        no_peer(f"nnU-Net is not installed ({e})")


def versions():
    from importlib.metadata import version
    return {name: version(name) for name in [
        "nnunetv2", "batchgenerators", "batchgeneratorsv2", "torch", "numpy", "scipy", "scikit-image",
        "SimpleITK", "scikit-learn"]}


@contextlib.contextmanager
def quiet():
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def fingerprint_and_plans(name, folder):
    """Runs extraction and planning of nnUNet_raw/name; writes into nnUNet_preprocessed/name."""
    from batchgenerators.utilities.file_and_folder_operations import load_json
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import \
        DatasetFingerprintExtractor
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import \
        ExperimentPlanner
    with quiet():
        extractor = DatasetFingerprintExtractor(name, num_processes=1)
        extractor.show_progress_bar = False
        extractor.run(overwrite_existing=True)
        ExperimentPlanner(name).plan_experiment()
    return (load_json(str(Path(folder) / name / "dataset_fingerprint.json")),
            load_json(str(Path(folder) / name / "nnUNetPlans.json")))


def splits(cases):
    from nnunetv2.utilities.crossval_split import generate_crossval_split
    folds = generate_crossval_split(sorted(cases), seed=12345, n_splits=5)
    return [{part: [str(case) for case in fold[part]] for part in ("train", "val")} for fold in folds]


def cases_of(folder):
    """case name -> {"images": [...], "label": ...}, as nnU-Net lists a raw data set."""
    from batchgenerators.utilities.file_and_folder_operations import load_json
    from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets
    return get_filenames_of_train_images_and_targets(
        str(folder), load_json(str(Path(folder) / "dataset.json")))


class Preprocessor:
    """DefaultPreprocessor of one data set and configuration."""

    def __init__(self, plans, configuration, dataset_json):
        from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
        self.plans = PlansManager(plans)
        self.configuration = self.plans.get_configuration(configuration)
        self.dataset_json = dataset_json
        self.worker = DefaultPreprocessor(verbose=False)

    def run(self, images, label):
        """(image [C][z][y][x], seg [1][z][y][x], properties)"""
        return self.worker.run_case(images, label, self.plans, self.configuration, self.dataset_json)

    def save(self, path, images, label):
        self.worker.run_case_save(path, images, label, self.plans, self.configuration,
                                  self.dataset_json)
