"""Network configurations that the comparisons use; the same ones, by name, as in tests/net."""


def _net(patch, features, strides, kernels=None, channels=1, classes=3, batch=2, batch_dice=False,
         convs=2):
    n = len(features)
    return {
        "patch": patch, "features": features, "strides": strides,
        "kernels": kernels or [[3, 3, 3]] * n, "channels": channels, "classes": classes,
        "batch": batch, "batch_dice": batch_dice, "convs": [convs] * n,
        "decoder_convs": [convs] * (n - 1),
    }


def _twos(n):
    return [[1, 1, 1]] + [[2, 2, 2]] * (n - 1)


CONFIGS = {
    # nnU-Net's own plan for Hippocampus.
    "hippocampus": _net([40, 56, 40], [32, 64, 128, 256], _twos(4)),
    "hippocampus_2d": _net([1, 56, 40], [32, 64, 128, 256],
                           [[1, 1, 1]] + [[1, 2, 2]] * 3, [[1, 3, 3]] * 4, batch_dice=True),
    # The demo's.
    "demo": _net([40, 56, 40], [16, 32, 64], _twos(3)),
    # Small ones that reach every case: anisotropic kernels and strides, two channels, batch Dice.
    "tiny": _net([8, 8, 8], [16, 32], _twos(2)),
    "aniso": _net([4, 16, 16], [16, 32, 64], [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
                  [[1, 3, 3], [3, 3, 3], [3, 3, 3]], channels=2, classes=4, batch_dice=True),
    "prostate": _net([20, 320, 256], [32, 64, 128, 256, 320, 320, 320],
                     [[1, 1, 1], [1, 2, 2], [1, 2, 2], [2, 2, 2], [2, 2, 2], [1, 2, 2], [1, 2, 2]],
                     [[1, 3, 3], [1, 3, 3]] + [[3, 3, 3]] * 5),
    "liver": _net([128, 128, 128], [32, 64, 128, 256, 320, 320], _twos(6)),
}
