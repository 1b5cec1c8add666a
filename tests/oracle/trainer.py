"""nnU-Net's training rules through its own trainer class: rotation and patch sizes, the list of transforms."""
import contextlib
from types import SimpleNamespace

NAMES = ("noise", "blur", "brightness", "contrast", "lowres", "gamma_inverted", "gamma")


def configured(patch):
    """{rotation, dummy_2d, initial, mirror_axes} that nnUNetTrainer derives from a patch of 2 or 3 axes."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    me = SimpleNamespace(configuration_manager=SimpleNamespace(patch_size=list(patch)),
                         print_to_log_file=lambda *_, **__: None)
    values = nnUNetTrainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size(me)
    rotation, dummy_2d, initial, mirror_axes = values
    return {"rotation": rotation, "dummy_2d": bool(dummy_2d), "initial": [int(i) for i in initial],
            "mirror_axes": tuple(mirror_axes)}


class Pipeline:
    """get_training_transforms of nnUNetTrainer with its parts by name (core/augment's names)."""

    def __init__(self, patch, mask=(), ds_scales=None):
        from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
        self.patch, self.rules = list(patch), configured(patch)
        self.all = nnUNetTrainer.get_training_transforms(
            self.patch, self.rules["rotation"], ds_scales, self.rules["mirror_axes"],
            self.rules["dummy_2d"], use_mask_for_norm=list(mask))
        kinds = [(type(t).__name__, t) for t in self.all.transforms]
        gated = [t for kind, t in kinds if kind == "RandomTransform"]
        one = lambda name: next((t for kind, t in kinds if kind == name), None)
        order = ["GaussianNoiseTransform", "GaussianBlurTransform", "MultiplicativeBrightnessTransform",
                 "ContrastTransform", "SimulateLowResolutionTransform", "GammaTransform",
                 "GammaTransform"]
        if [type(g.transform).__name__ for g in gated] != order or \
                [g.transform.p_invert_image for g in gated[-2:]] != [1, 0]:
            raise SystemExit(f"nnU-Net's list of transforms is not the one core/augment follows: {kinds}")
        self.gates = dict(zip(NAMES, gated))
        self.parts = {name: gate.transform for name, gate in self.gates.items()}
        self.parts.update(spatial=one("SpatialTransform"), mirror=one("MirrorTransform"),
                          labels=one("RemoveLabelTransform"), targets=one("DownsampleSegForDSTransform"))

    def fix(self, params, channels):
        """From now on every run uses params (tests/oracle/augment_task.h says how they look)."""
        import torch
        spatial = self.parts["spatial"]
        spatial.p_rotation, spatial.p_scaling = float("angle" in params), float("scale" in params)
        angles = params.get("angle", [0, 0, 0])
        in_plane = len(spatial.patch_size) == 2
        spatial.rotation = lambda image, dim: angles[0 if in_plane else dim]
        spatial.scaling = lambda image, dim: params["scale"]
        every = torch.arange(channels)
        fixed = {}
        if "noise" in params:
            fixed["noise"] = {"apply_mask": every >= 0, "apply_idx": every, "num_apply": channels,
                              "sigmas": params["noise"]}
        if "blur" in params:
            on = [s is not None for s in params["blur"]]
            first = 1 if len(self.patch) == 2 else 0
            fixed["blur"] = {"apply_to_channel": torch.tensor(on),
                             "sigmas": [s[first:] for s in params["blur"] if s is not None]}
        for name in ("brightness", "contrast"):
            if name in params:
                fixed[name] = {"apply_to_channel": every, "multipliers": torch.tensor(params[name])}
        if "lowres" in params:
            on = [c for c, z in enumerate(params["lowres"]) if z is not None]
            scales = torch.tensor([[params["lowres"][c]] * len(self.patch) for c in on])
            ignored = self.parts["lowres"].ignore_axes
            if ignored is not None:
                scales[:, ignored] = 1
            fixed["lowres"] = {"apply_to_channel": torch.tensor(on), "scales": scales}
        for name in ("gamma", "gamma_inverted"):
            if name in params:
                fixed[name] = {"apply_to_channel": every, "retain_stats": every >= 0,
                               "invert_image": (every >= 0) == (name == "gamma_inverted"),
                               "gamma": torch.tensor(params[name])}
        for name, gate in self.gates.items():
            gate.apply_probability = float(name in fixed)
            gate.transform.get_parameters = lambda fixed=fixed.get(name), **_: fixed
        bits = params.get("mirror", 0)
        shift = 3 - len(self.patch)
        axes = [a for a in self.rules["mirror_axes"] if bits >> (a + shift) & 1]
        self.parts["mirror"].get_parameters = lambda **_: {"axes": axes}

    def blur_by(self, fft):
        """Which of its two ways GaussianBlurTransform goes; otherwise the faster one when it was timed."""
        from batchgeneratorsv2.transforms.noise.gaussian_blur import blur_dimension
        self.parts["blur"]._benchmark_wrapper = lambda image, sigma, axis: blur_dimension(
            image, sigma, axis, force_use_fft=fft)

    def run(self, image, label, keep_outside=False):
        """Arrays [C][...] and [...] of the initial patch to those of the patch; label -1 stays where asked."""
        import torch
        data = {"image": torch.from_numpy(image.copy()), "segmentation": torch.from_numpy(label[None].copy())}
        for t in self.all.transforms:
            if not (keep_outside and t is self.parts["labels"]):
                data = t(**data)
        return data["image"].numpy(), data["segmentation"][0].numpy()


@contextlib.contextmanager
def normal_numbers(values):
    """torch's normal_ gives these numbers, so that noise can be compared voxel by voxel."""
    import torch
    before = torch.Tensor.normal_

    def normal_(self, mean=0.0, std=1.0, **_):
        return self.copy_(torch.from_numpy(values).reshape(self.shape)).mul_(std).add_(mean)
    torch.Tensor.normal_ = normal_
    try:
        yield
    finally:
        torch.Tensor.normal_ = before
