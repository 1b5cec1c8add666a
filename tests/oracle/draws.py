"""How the parameters of augmentation are distributed: core/augment's draws against nnU-Net's own transforms.

Every parameter: 10,000 draws of each, two-sample Kolmogorov-Smirnov, p at least 0.001, seeds fixed. Every
choice whether something happens: the same probability in both, and both counts within four standard
errors of it."""
import json
import subprocess
import tempfile
from pathlib import Path

DRAWS = 10_000
LEAST_P = 1e-3
ERRORS = 4.0      # standard errors, of a count
CORRELATED = 4.5  # standard errors, of the largest of several hundred correlations

# name, patch, channels, seed
SETTINGS = [("3d", [40, 56, 40], 2, 11), ("2d", [56, 40], 1, 12), ("2d, +-15 degrees", [320, 192], 3, 13),
            ("dummy 2d", [20, 320, 256], 2, 14)]


def _patches(rs, count):
    """Patches as planners make them and as people write them, and pairs on both sides of a threshold."""
    for _ in range(count):
        dims = rs.randint(2, 4)
        patch = [int(n) for n in 2 ** rs.uniform(3, 9, dims)]
        if rs.rand() < 0.5:
            patch = [max(n // 4, 1) * 4 for n in patch]
        if rs.rand() < 0.3:
            patch[rs.randint(dims)] = max(patch) * 3 if dims == 3 else max(patch) * 3 // 2
        if max(patch) <= 768:
            yield patch


def theirs(patch, channels, seed):
    """{column: values} in oracle_draws' names; values of what was not drawn are left out."""
    import numpy as np
    import torch
    from trainer import Pipeline
    np.random.seed(seed)
    torch.manual_seed(seed)
    pipeline = Pipeline(patch)
    parts, dims = pipeline.parts, len(patch)
    image = torch.zeros([channels] + [2] * dims)
    out = {"mirror": [[i in parts["mirror"].get_parameters()["axes"] for i in range(dims)] for _ in range(DRAWS)]}
    for name, gate in pipeline.gates.items():
        out[name] = [gate.get_parameters()["apply_transform"] for _ in range(DRAWS)]
    plane = image[:, 0] if pipeline.rules["dummy_2d"] else image
    out["chances"] = {"p_rotation": parts["spatial"].p_rotation, "p_scaling": parts["spatial"].p_scaling,
                      "blur": parts["blur"].p_per_channel, "lowres": parts["lowres"].p_per_channel}
    # the grid that the parameters come with need not have the patch's size
    parts["spatial"].patch_size = [2] * (plane.ndim - 1)
    out["affine"] = [parts["spatial"].get_parameters(image=plane)["affine"] for _ in range(DRAWS)]
    parts["spatial"].p_rotation = parts["spatial"].p_scaling = 1
    out["always"] = [parts["spatial"].get_parameters(image=plane)["affine"] for _ in range(DRAWS)]
    for name in ("blur", "lowres"):
        chosen = [parts[name].get_parameters(image=image)["apply_to_channel"].tolist() for _ in range(DRAWS)]
        out[f"{name}_channels"] = [[on[c] if name == "blur" else c in on for c in range(channels)] for on in chosen]
        parts[name].p_per_channel = 1
    for name, part in parts.items():
        if name in pipeline.gates:
            out[f"{name}_parameters"] = [part.get_parameters(image=image) for _ in range(DRAWS)]
    return pipeline, out


def _rotation(affine):
    """(scale, angles) of batchgeneratorsv2's affine matrices, which are turns times one scale."""
    import numpy as np
    a = np.array(affine)
    scale = np.linalg.norm(a[:, :, 0], axis=1)
    m = a / scale[:, None, None]
    assert np.allclose(m @ m.transpose(0, 2, 1), np.eye(m.shape[1]))
    if m.shape[1] == 2:
        return scale, [np.arctan2(m[:, 1, 0], m[:, 0, 0])]
    return scale, [np.arctan2(m[:, 2, 1], m[:, 2, 2]), -np.arcsin(m[:, 2, 0]), np.arctan2(m[:, 1, 0], m[:, 0, 0])]


def parameters(pipeline, drawn, channels):
    """(column of oracle_draws, nnU-Net's values)"""
    import numpy as np
    scale, angles = _rotation(drawn["always"])
    yield "scale", scale
    for i, angle in enumerate(angles):
        yield f"angle.{i}", angle
    sigmas = [p["sigmas"] for p in drawn["noise_parameters"]]
    assert all(isinstance(s, float) for s in sigmas), "one deviation for all channels"
    yield "noise_sigma", np.array(sigmas)
    first = 3 - len(pipeline.patch)
    factors = (("brightness", "brightness_factor", "multipliers"), ("contrast", "contrast_factor", "multipliers"),
               ("gamma", "gamma_exponent", "gamma"), ("gamma_inverted", "gamma_inverted_exponent", "gamma"))
    for name, ours, key in factors:
        values = np.stack([p[key].numpy() for p in drawn[f"{name}_parameters"]])
        yield from ((f"{ours}.{c}", values[:, c]) for c in range(channels))
    blur = np.array([p["sigmas"] for p in drawn["blur_parameters"]])
    yield from ((f"blur_sigma.{c}.{i + first}", blur[:, c, i]) for c in range(channels) for i in range(blur.shape[2]))
    zoom = np.stack([p["scales"].numpy() for p in drawn["lowres_parameters"]])
    kept = 1 if pipeline.rules["dummy_2d"] else 0
    assert (zoom[:, :, :kept] == 1).all() and (zoom[:, :, kept:] == zoom[:, :, -1:]).all(), "one zoom for all axes"
    yield from ((f"zoom.{c}", zoom[:, c, -1]) for c in range(channels))


def choices(pipeline, drawn, channels):
    """(what, {policy's name: nnU-Net's probability} whose product it has, nnU-Net's outcomes, ours of columns)"""
    import numpy as np
    gates, chances = pipeline.gates, drawn["chances"]
    affine = [(m is not None and abs(m[0] / np.linalg.norm(m[0])).max() < 1 - 1e-12,
               m is not None and abs(np.linalg.norm(m[0]) - 1) > 1e-12) for m in drawn["affine"]]
    turned, zoomed = np.array(affine).T
    rotation = lambda d: np.any([d[f"angle.{i}"] != 0 for i in range(3)], axis=0)
    p_rotation, p_scaling = {"rotation": chances["p_rotation"]}, {"scaling": chances["p_scaling"]}
    yield "rotation", p_rotation, turned, rotation
    yield "scaling", p_scaling, zoomed, lambda d: d["scale"] != 1
    yield "rotation with scaling", {**p_rotation, **p_scaling}, turned & zoomed, \
        lambda d: rotation(d) & (d["scale"] != 1)
    for name, gate in gates.items():
        if name not in ("blur", "lowres"):
            yield name, {name: gate.apply_probability}, np.array(drawn[name]), lambda d, n=name: d[n] != 0
    mirrored, first = np.array(drawn["mirror"]), 3 - len(pipeline.patch)
    for i in range(len(pipeline.patch)):
        yield f"mirror of axis {i + first}", {"mirror": 0.5}, mirrored[:, i], \
            lambda d, i=i: d[f"mirror.{i + first}"] != 0
    for name in ("blur", "lowres"):
        p = {name: gates[name].apply_probability, f"{name}_channel": chances[name]}
        for c in range(channels):
            on = np.array(drawn[name]) & np.array(drawn[f"{name}_channels"])[:, c]
            yield f"{name} of channel {c}", p, on, lambda d, n=name, c=c: d[f"{n}.{c}"] != 0


def check_choices(checks, name, pipeline, drawn, channels, policy, ours):
    import numpy as np
    for what, chances, theirs_on, ours_on in choices(pipeline, drawn, channels):
        same = all(policy[k] == float(np.float32(p)) for k, p in chances.items())
        checks.check(f"{name} {what}: probabilities", same, f"{chances}")
        expected = float(np.prod(list(chances.values())))
        error = (DRAWS * expected * (1 - expected)) ** 0.5
        counts = int(ours_on(ours)[:DRAWS].sum()), int(theirs_on.sum())
        checks.at_most(f"{name} {what}: count from its expectation in standard errors",
                       max(abs(n - DRAWS * expected) for n in counts) / error, ERRORS,
                       f"{counts[0]}, nnU-Net {counts[1]} of {DRAWS}")


def check_parameters(checks, name, pipeline, drawn, channels, ours):
    import numpy as np
    from scipy import stats
    on = {"scale": ours["scale"] != 1, "angle": np.any([ours[f"angle.{i}"] != 0 for i in range(3)], axis=0)}
    for column, want in parameters(pipeline, drawn, channels):
        got = ours[column]
        got = got[on[column.split(".")[0]]] if column.split(".")[0] in on else got
        n = min(DRAWS, len(got), len(want))
        p = stats.ks_2samp(got[:n], want[:n]).pvalue
        checks.check(f"{name} {column}", p >= LEAST_P and n == DRAWS,
                     f"p = {p:.3g} of {n} draws in [{got[:n].min():.4g}, {got[:n].max():.4g}], nnU-Net "
                     f"[{want[:n].min():.4g}, {want[:n].max():.4g}]")


def check_independence(checks, name, table, columns):
    """No column tells another, and no sample the next ones; angles and the like share their own choice."""
    import numpy as np
    family = lambda c: "spatial" if c.split(".")[0] in ("angle", "scale", "spatial") else c.split(".")[0] \
        if c.split(".")[0] in ("blur", "lowres") else c
    moving = [i for i in range(len(columns)) if table[:, i].std() > 0]
    r = np.corrcoef(table[:, moving].T)
    n = len(table)
    pairs = [(abs(r[a, b]), columns[moving[a]], columns[moving[b]]) for a in range(len(moving)) for b in range(a)
             if family(columns[moving[a]]) != family(columns[moving[b]])]
    worst = max(pairs)
    checks.at_most(f"{name}: largest of {len(pairs)} correlations of columns in standard errors", worst[0] * n ** 0.5,
                   CORRELATED, f"{worst[1]} with {worst[2]}")
    lags = [(abs(np.corrcoef(table[:-lag, i], table[lag:, i])[0, 1]), lag, columns[i]) for i in moving
            for lag in (1, 2, 3, 4)]
    worst = max(lags)
    checks.at_most(f"{name}: largest of {len(lags)} correlations with later samples in standard errors",
                   worst[0] * n ** 0.5, CORRELATED, f"{worst[2]}, {worst[1]} samples later")


def check_policy(checks, patches, policies):
    from trainer import configured
    different = []
    for patch, ours in zip(patches, policies):
        want, skip = configured(patch), 3 - len(patch)
        axes = sum(1 << (a + skip) for a in want["mirror_axes"])
        if ours["initial"][skip:] != want["initial"] or ours["dummy_2d"] != want["dummy_2d"] or \
                abs(ours["rotation_limit"] - want["rotation"][1]) > 1e-6 or ours["mirror_axes"] != axes:
            different.append(f"{patch}: {ours}, nnU-Net {want}")
    planar = sum(p["dummy_2d"] for p in policies)
    checks.check("initial patch, rotation limit, dummy 2d, mirror axes of drawn patches", not different,
                 f"{len(patches) - len(different)} of {len(patches)} equal, {planar} dummy 2d")
    for line in different[:10]:
        print(f"    {line}")


def check(checks, program):
    import numpy as np
    patches = list(_patches(np.random.RandomState(5), 600))
    settings = [{"name": f"patch{i}", "patch": p, "channels": 1, "count": 0} for i, p in enumerate(patches)]
    settings += [{"name": n, "patch": p, "channels": c, "seed": s, "count": 8 * DRAWS} for n, p, c, s in SETTINGS]
    with tempfile.TemporaryDirectory() as tmp:
        folder = Path(tmp)
        (folder / "settings.json").write_text(json.dumps(settings))
        subprocess.run([program, folder], check=True)
        policies = json.loads((folder / "policies.json").read_text())
        check_policy(checks, patches, policies[:len(patches)])
        for (name, patch, channels, seed), policy in zip(SETTINGS, policies[len(patches):]):
            columns = policy["columns"]
            table = np.fromfile(folder / f"{name}.draws", "<f8").reshape(-1, len(columns))
            ours = dict(zip(columns, table.T))
            pipeline, drawn = theirs(patch, channels, seed)
            check_choices(checks, name, pipeline, drawn, channels, policy, ours)
            check_parameters(checks, name, pipeline, drawn, channels, ours)
            check_independence(checks, name, table, columns)
