"""Network configurations that the comparisons use; the same ones, by name, as in tests/net."""


def _net(patch, features, strides, kernels=None, channels=1, classes=3, batch=2, batch_dice=False,
         convs=2, slope=0.01):
    n = len(features)
    return {
        "patch": patch, "features": features, "strides": strides,
        "kernels": kernels or [[3, 3, 3]] * n, "channels": channels, "classes": classes,
        "batch": batch, "batch_dice": batch_dice, "slope": slope, "convs": [convs] * n,
        "decoder_convs": [convs] * (n - 1),
    }


def _twos(n):
    return [[1, 1, 1]] + [[2, 2, 2]] * (n - 1)


_ANISO = ([8, 32, 32], [16, 32, 64], [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
          [[1, 3, 3], [3, 3, 3], [3, 3, 3]])

CONFIGS = {
    # nnU-Net's own plan for Hippocampus.
    "hippocampus": _net([40, 56, 40], [32, 64, 128, 256], _twos(4)),
    "hippocampus_2d": _net([1, 56, 40], [32, 64, 128, 256],
                           [[1, 1, 1]] + [[1, 2, 2]] * 3, [[1, 3, 3]] * 4, batch_dice=True),
    # The demo's.
    "demo": _net([40, 56, 40], [16, 32, 64], _twos(3)),
    # The same without activation: everything but the kink, at full size.
    "demo_smooth": _net([40, 56, 40], [16, 32, 64], _twos(3), slope=1.0),
    # Small ones that reach every case: anisotropic kernels and strides, two channels, batch Dice.
    "tiny": _net([8, 8, 8], [16, 32], _twos(2)),
    "tiny_smooth": _net([8, 8, 8], [16, 32], _twos(2), slope=1.0),
    "aniso": _net(*_ANISO, channels=2, classes=4, batch_dice=True),
    "aniso_smooth": _net(*_ANISO, channels=2, classes=4, batch_dice=True, slope=1.0),
    "prostate": _net([20, 320, 256], [32, 64, 128, 256, 320, 320, 320],
                     [[1, 1, 1], [1, 2, 2], [1, 2, 2], [2, 2, 2], [2, 2, 2], [1, 2, 2], [1, 2, 2]],
                     [[1, 3, 3], [1, 3, 3]] + [[3, 3, 3]] * 5),
    "liver": _net([128, 128, 128], [32, 64, 128, 256, 320, 320], _twos(6)),
}
