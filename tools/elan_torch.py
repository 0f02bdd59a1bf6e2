"""ELAN in PyTorch, straight from the tensors of a weights file in the published key layout, or in
its low-memory variant.

    net = Elan(load_file("models/elan_light_x4.safetensors"))
    y = net(x)  # [N, 3, H, W] RGB on net.value_range -> [N, 3, s*H, s*W], neither rounded nor clamped

Independent of the C++ code: golden values and converted files are checked with it. Any floating
type works; the tensors decide. Not made for speed.
"""

import torch
import torch.nn.functional as F


class Elan:
    def __init__(self, tensors, windows=(4, 8, 16), value_range=None, dtype=None):
        self.t = {k: v.to(dtype) if dtype else v.clone() for k, v in tensors.items()}
        self.windows = windows
        self.channels = self.t["head.0.weight"].shape[0]
        self.scale = round((self.t["tail.0.weight"].shape[0] / 3) ** 0.5)
        self.elabs = 1 + max(int(k.split(".")[1]) for k in self.t if k.startswith("body."))
        self.pairs = sum(k.startswith("body.0.") and k.endswith(".project_out.bias") for k in self.t)
        conv0 = "body.0.modules_lfe.lfe_0.conv0.shift_conv"
        hidden = self.t[conv0 + (".b" if conv0 + ".b" in self.t else ".conv1x1.bias")].shape[0]
        self.expand = hidden // self.channels
        self.mean = -self.t["sub_mean.bias"] if "sub_mean.bias" in self.t else None
        if value_range is None:
            value_range = 255 if self.mean is not None and self.mean.max() > 1 else 1
        self.value_range = value_range

    @property
    def variant(self):
        shape = (self.elabs * self.pairs, self.channels, self.pairs, self.expand)
        return {(36, 180, 1, 2): "full", (24, 60, 2, 2): "light"}.get(shape, "custom")

    def conv(self, x, key, **options):
        return F.conv2d(x, self.t[key + ".weight"], self.t[key + ".bias"], **options)

    def shift_conv(self, x, key):
        if key + ".m" in self.t:  # the low-memory variant
            return F.conv2d(x, self.t[key + ".w"] * self.t[key + ".m"], self.t[key + ".b"], padding=1)
        x = F.conv2d(x, self.t[key + ".weight"], padding=1, groups=x.shape[1])
        return self.conv(x, key + ".conv1x1")

    def lfe(self, x, key):
        return self.shift_conv(F.relu(self.shift_conv(x, key + ".conv0.shift_conv")), key + ".conv1.shift_conv")

    def project(self, x, key):
        x = self.conv(x, key + ".0")
        if key + ".1.weight" not in self.t:
            return x
        norm = (self.t[f"{key}.1.{n}"] for n in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *norm, eps=1e-5)

    def gmsa(self, x, key, shifted, attention):
        """`attention` is empty for the first pair of an ELAB, which fills it for the others."""
        first, results = not attention, []
        for k, group in enumerate(self.project(x, key + ".project_inp").chunk(3, dim=1)):
            w = self.windows[k]
            roll = w // 2 if shifted else 0
            n, c, height, width = group.shape
            cut = group.roll((-roll, -roll), (2, 3)).view(n, c, height // w, w, width // w, w)
            tokens = cut.permute(0, 2, 4, 3, 5, 1).flatten(3, 4)  # [n, rows, columns, w*w, c]
            if first:
                q, v = tokens.chunk(2, dim=-1)
                attention.append(torch.softmax(q @ q.mT, dim=-1))
            else:
                v = tokens
            y = (attention[k] @ v).unflatten(3, (w, w)).permute(0, 5, 1, 3, 2, 4)
            results.append(y.reshape(n, -1, height, width).roll((roll, roll), (2, 3)))
        return self.conv(torch.cat(results, 1), key + ".project_out")

    @torch.no_grad()
    def __call__(self, x, watch=lambda name, value: None):
        """watch(name, tensor) sees every stage of the padded picture, named as in the C++ code."""
        height, width = x.shape[2:]
        x = reflect_to_multiple(x, max(self.windows))
        mean = 0 if self.mean is None else self.mean.view(1, 3, 1, 1)
        head = self.conv(x - mean, "head.0", padding=1)
        watch("head", head)
        x = head
        for i in range(self.elabs):
            attention = []
            for j in range(self.pairs):
                x = x + self.lfe(x, f"body.{i}.modules_lfe.lfe_{j}")
                watch(f"body.{i}.lfe.{j}", x)
                x = x + self.gmsa(x, f"body.{i}.modules_gmsa.gmsa_{j}", i % 2 == 1, attention)
                watch(f"body.{i}.gmsa.{j}", x)
        x = x + head
        watch("body", x)
        x = F.pixel_shuffle(self.conv(x, "tail.0", padding=1), self.scale)
        watch("tail", x)
        return (x + mean)[:, :, : height * self.scale, : width * self.scale]


def reflect_to_multiple(x, multiple):
    """Pads right and bottom; reflects again and again where the picture is smaller than the padding."""
    for dim in (2, 3):
        size = x.shape[dim]
        at = torch.arange(-(-size // multiple) * multiple) % max(2 * (size - 1), 1)
        x = x.index_select(dim, torch.where(at < size, at, 2 * (size - 1) - at))
    return x
