"""Seeds for the .pth fuzzer: PyTorch's own sample file, its pickle, and, where PyTorch and nnU-Net's networks are
installed, checkpoints of other small networks, formats and contents.

usage: seeds.py FOLDER"""
import io
import random
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def add(folder, name, archive):
    (folder / f"{name}.pth").write_bytes(archive)
    with zipfile.ZipFile(io.BytesIO(archive)) as z:
        pickle = next(n for n in z.namelist() if n.endswith("/data.pkl"))
        (folder / f"{name}.pkl").write_bytes(z.read(pickle))


def made_by_torch(folder):
    import numpy as np
    import torch
    from dynamic_network_architectures.architectures import unet

    def save(name, content, **options):
        buffer = io.BytesIO()
        torch.save(content, buffer, **options)
        add(folder, name, buffer.getvalue())

    tiny = torch.arange(8.0).reshape(2, 4)
    common = {"trainer_name": "nnUNetTrainer", "current_epoch": np.int64(3), "_best_ema": np.float32(0.5)}
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        save(str(dtype), {"network_weights": {"w": tiny.to(dtype), "t": tiny.to(dtype).t()}, **common})
    save("protocol4", {"network_weights": {"module.w": tiny}, "logging": {"a": np.arange(6.0).reshape(2, 3)}},
         pickle_protocol=4)
    save("parameter", {"network_weights": {"w": torch.nn.Parameter(tiny)}, "size": tiny.shape, "dtype": torch.float32,
                       "inference_allowed_mirroring_axes": [0, 1, 2]})
    net = unet.ResidualEncoderUNet(1, 2, [1, 2], torch.nn.Conv3d, [[1, 1, 1], [1, 1, 1]], [[1, 1, 1], [2, 2, 2]], [1, 1],
                                   2, [1], True, torch.nn.InstanceNorm3d, {"affine": True}, None, None,
                                   torch.nn.LeakyReLU, {"inplace": True}, deep_supervision=True)
    save("resenc", {"network_weights": net.state_dict(), "init_args": {"fold": "all", "plans": {"x": [1, None]}},
                    **common})


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    sample = (ROOT / "tests/checkpoint/samples/torch.pth").read_bytes()
    add(folder, "torch", sample)
    random.seed(1)
    for i in range(8):  # cut pickles: shorter ways into the middle
        pickle = (folder / "torch.pkl").read_bytes()
        at = random.randrange(len(pickle))
        (folder / f"cut{i}.pkl").write_bytes(pickle[:at] + b".")
    try:
        made_by_torch(folder)
    except ImportError as e:
        print(f"fewer seeds: {e}", file=sys.stderr)


main()
