"""Figures of nnU-Net's augmentation for tests/augment/test_oracle.c, which runs without nnU-Net."""
import hashlib
import json

import hashed
import nnunet
from trainer import Pipeline, configured

PATCHES = [[40, 56, 40], [56, 40], [128, 128, 128], [20, 320, 256], [320, 192], [96, 160, 160], [64, 64],
           [16, 48, 48], [16, 49, 48], [80, 192, 160], [28, 256, 224], [448, 576], [30, 20], [31, 20],
           [112, 128, 128], [48, 192, 192], [7, 8, 9], [36, 108, 109], [512, 512], [192, 192, 192]]
# patch and the samples made of it; more than one channel: the last is masked
SAMPLES = [
    ([8, 10, 7], 2, [
        {"angle": [0.31, -0.42, 0.17], "scale": 0.83},
        {"angle": [-0.2, 0.11, 0.45]}, {"scale": 1.37},
        {"blur": [[0.5, 0.77, 1.0], None]}, {"blur": [[0.61, 0.93, 0.52], [0.88, 0.7, 0.66]]},
        {"brightness": [0.8, 1.2]}, {"contrast": [0.76, 1.23]}, {"lowres": [0.57, None]},
        {"gamma": [0.72, 1.46]}, {"gamma_inverted": [1.31, 0.81]}, {"mirror": 5},
        {"angle": [0.5, 0.2, -0.3], "scale": 1.2, "blur": [None, [0.6, 0.8, 0.9]],
         "brightness": [1.1, 0.9], "contrast": [1.2, 0.8], "lowres": [0.9, 0.64],
         "gamma_inverted": [0.75, 1.4], "gamma": [1.3, 0.9], "mirror": 7}]),
    ([12, 9], 1, [{"angle": [2.2], "scale": 0.9}, {"blur": [[0.5, 0.9, 0.6]]}, {"lowres": [0.66]},
                  {"angle": [-1.1], "scale": 1.33, "contrast": [0.9], "lowres": [0.8], "mirror": 4}]),
    ([3, 12, 10], 1, [{"angle": [0.9], "scale": 0.75}, {"blur": [[0.7, 0.8, 0.9]]}, {"lowres": [0.7]}]),
]


def _volume(patch):
    return ([1] if len(patch) == 2 else []) + list(patch)


def _input(patch, channels):
    import numpy as np
    size = configured(patch)["initial"]
    n = int(np.prod(size))
    image = np.stack([hashed.numbers(n, c).reshape(size) for c in range(channels)])
    z, y, x = np.meshgrid(*[np.arange(s) for s in _volume(size)], indexing="ij")
    label = np.where(x < 3, -1, (z // 3 + y // 4 + x // 3) % 4).astype(np.int16)
    return image, label.reshape(size)


def _sample(patch, channels, params):
    import numpy as np
    float32 = lambda v: [float32(i) for i in v] if isinstance(v, list) else \
        float(np.float32(v)) if isinstance(v, float) else v
    params = {k: float32(v) for k, v in params.items()}
    mask = [False] * (channels - 1) + [channels > 1]
    pipeline = Pipeline(patch, mask=mask)
    pipeline.blur_by(fft=False)
    pipeline.fix(params, channels)
    image, label = pipeline.run(*_input(patch, channels))
    rules = pipeline.rules
    picked = [np.linspace(0, c.size - 1, 11).astype(int) for c in image]
    return {"dims": len(patch), "channels": channels, "patch": _volume(patch),
            "initial": _volume(rules["initial"]), "dummy_2d": rules["dummy_2d"],
            "mask_channels": sum(1 << c for c, m in enumerate(mask) if m), "params": params,
            "image": [{"mean": float(c.mean(dtype=np.float64)), "std": float(c.std(dtype=np.float64)),
                       "at": [float(f"{v:.8g}") for v in c.ravel()[p]]} for c, p in zip(image, picked)],
            "label": "".join(str(v) for v in label.ravel())}


def nearest_exact():
    """Digest of the indices that torch picks when it shrinks every length up to 256 to half of it at most."""
    import numpy as np
    import torch
    from torch.nn.functional import interpolate
    digest = hashlib.sha256()
    for n in range(1, 257):
        line = torch.arange(n, dtype=torch.float32).view(1, 1, n, 1, 1)
        for small in range((n + 1) // 2, n + 1):
            digest.update(interpolate(line, (small, 1, 1), mode="nearest-exact").numpy().astype("<i4").tobytes())
    return digest.hexdigest()


def write(path):
    import torch
    with torch.no_grad():
        figures = {
            "versions": nnunet.versions(), "nearest_exact": nearest_exact(),
            "policies": [{"patch": p, **configured(p)} for p in PATCHES],
            "samples": [_sample(p, c, params) for p, c, many in SAMPLES for params in many]}
    path.write_text(json.dumps(figures, separators=(",", ":")) + "\n")
