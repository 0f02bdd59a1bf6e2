"""ELAN for training in 8 bits: the forward pass of docs/quantization.md with gradients.

    net = ElanQuant(load(float_file), load(int8_file))   # fake quantisation, every scale learned
    net = ElanQuant(load(float_file))                    # the same network in floating point
    y = net(x)                                           # [N, 3, H, W] RGB on 0..255, sides multiples of 16

Values in 8 bits are floats that hold integers. Their products and sums stay below 2^24 and are therefore exact,
also where the matrix products run in TF32. Rounding passes the gradient through; a step is exp(t) times what
calibration found, and the gradient with respect to it is that of learned step size quantisation (Esser et al.,
ICLR 2020).
"""

import math

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

WINDOWS = (4, 8, 16)
TOP = 127


def load(path):
    """Tensors and metadata of a weights file in the published layout."""
    with safe_open(path, "pt") as file:
        metadata = dict(file.metadata() or {})
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    if metadata.get("windows", "4,8,16") != "4,8,16" or metadata.get("value_range", "0..255") != "0..255":
        raise SystemExit(f"{path}: expected windows 4,8,16 and values 0..255, found others")
    if "sub_mean.bias" not in tensors:
        raise SystemExit(f"{path}: expected a network that subtracts a mean, found none")
    return tensors, metadata


def floats_of(int8_file):
    """The same file with what its integers stand for in their place."""
    tensors, metadata = int8_file
    values = {
        key: t.float() * tensors[key + "_scale"].view(-1, 1, 1, 1) if t.dtype == torch.int8 else t
        for key, t in tensors.items()
    }
    return values, metadata


class Round(torch.autograd.Function):
    """To the nearest integer, halves to even; the gradient goes through."""

    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def to_levels(x, low=-TOP):
    return Round.apply(x).clamp(low, TOP)


class Step(nn.Module):
    """One or more scales of 8-bit values, trained by their logarithms."""

    def __init__(self, start):
        super().__init__()
        self.register_buffer("start", start.float().clone())
        self.log = nn.Parameter(torch.zeros_like(self.start))

    def forward(self):
        return self.start * self.log.exp()


def narrow(x):
    """Products and quotients of scales are computed in double and rounded once."""
    return x.float()


class Matrix(nn.Module):
    """A 1x1 convolution; with a step for the weights it multiplies integers."""

    def __init__(self, weight, bias, weight_scale=None):
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight.float().flatten(1).clone()), nn.Parameter(bias.float().clone())
        self.step = None if weight_scale is None else Step(weight_scale)

    def levels(self):
        return to_levels(self.weight / self.step()[:, None])

    def sums(self, xq):
        return F.linear(xq, self.levels())


class ElanQuant(nn.Module):
    def __init__(self, float_file, int8_file=None, exact=False):
        """`float_file` gives the weights, `int8_file` the scales and biases; both as of load(). `exact` multiplies
        and adds without rounding in between, as the engines do (slow)."""
        super().__init__()
        tensors, _ = float_file
        int8 = int8_file[0] if int8_file else {}
        self.exact = exact
        self.channels = tensors["head.0.weight"].shape[0]
        self.scale = math.isqrt(tensors["tail.0.weight"].shape[0] // 3)
        self.register_buffer("mean", -tensors["sub_mean.bias"].float().view(1, 3, 1, 1))
        self.head = self._conv(tensors, int8, "head.0")
        self.tail = self._conv(tensors, int8, "tail.0")
        elabs = 1 + max(int(key.split(".")[1]) for key in tensors if key.startswith("body."))
        pairs = sum(key.startswith("body.0.") and key.endswith(".project_out.bias") for key in tensors)
        self.body = nn.ModuleList(Elab(tensors, int8, i, pairs, exact) for i in range(elabs))

    @staticmethod
    def _conv(tensors, int8, base):
        weight, bias = (int8.get(f"{base}.{name}", tensors[f"{base}.{name}"]).float() for name in ("weight", "bias"))
        conv = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
        conv.weight.data.copy_(weight)
        conv.bias.data.copy_(bias)
        return conv

    def forward(self, picture):
        head = self.head(picture - self.mean)
        x = head.permute(0, 2, 3, 1).contiguous()  # channels last: matrices work on pixels
        for elab in self.body:
            x = elab(x)
        return F.pixel_shuffle(self.tail(x.permute(0, 3, 1, 2) + head), self.scale) + self.mean

    def steps(self):
        return [module.log for module in self.modules() if isinstance(module, Step)]


def fused(sums, factor, offset, exact):
    if exact:
        return (sums.double() * factor.double() + offset.double()).float()
    return sums * factor + offset


def quantise(x, step):
    return to_levels(x * (1 / step))


class Pair(nn.Module):
    """LFE and GMSA, each added to the stream."""

    def __init__(self, tensors, int8, elab, pair, exact):
        super().__init__()
        self.exact, self.shifted, self.computes = exact, elab % 2 == 1, pair == 0
        lfe, gmsa = f"body.{elab}.modules_lfe.lfe_{pair}", f"body.{elab}.modules_gmsa.gmsa_{pair}"
        for name in ("conv0", "conv1"):
            base = f"{lfe}.{name}.shift_conv"
            check_shift(base, tensors[base + ".weight"])
            setattr(self, name, self._matrix(tensors, int8, base + ".conv1x1"))
            setattr(self, name + "_in", self._step(int8, base + ".conv1x1.input_scale"))
        q, v = projections(tensors, gmsa, self.computes)
        inp = gmsa + ".project_inp"
        self.q = self._matrix(tensors, int8, inp + ".q", *q) if self.computes else None
        self.v = self._matrix(tensors, int8, inp + ".v", *v)
        self.inp_in = self._step(int8, inp + ".input_scale")
        self.out = self._matrix(tensors, int8, gmsa + ".project_out")
        self.out_in = self._step(int8, gmsa + ".project_out.input_scale")
        self.q_step = self._step(int8, gmsa + ".q_scale")
        self.v_step = self._step(int8, gmsa + ".v_scale")

    @staticmethod
    def _matrix(tensors, int8, base, weight=None, bias=None):
        weight = tensors[base + ".weight"] if weight is None else weight
        bias = int8.get(base + ".bias", tensors.get(base + ".bias") if bias is None else bias)
        return Matrix(weight, bias, int8.get(base + ".weight_scale"))

    @staticmethod
    def _step(int8, key):
        return Step(int8[key]) if key in int8 else None

    def _product(self, matrix, step, x, xq=None):
        """In floating point or 8 bits; `xq` are the integers of x if they are there already."""
        if matrix.step is None:
            return F.linear(x, matrix.weight, matrix.bias)
        xq = quantise(x, step()) if xq is None else xq
        factor = narrow(step().double() * matrix.step().double())
        return fused(matrix.sums(xq), factor, matrix.bias, self.exact)

    def _levels(self, matrix, step, x, xq, target):
        """The result as integers of scale `target` (one, or one for each channel), not yet rounded."""
        if matrix.step is None:
            return F.linear(x, matrix.weight, matrix.bias) * (1 / target)
        wide = target.double()
        factor = narrow(step().double() * matrix.step().double() / wide)
        return fused(matrix.sums(xq), factor, narrow(matrix.bias.double() / wide), self.exact)

    def lfe(self, x):
        if self.conv0.step is None or self.conv1.step is None:
            hidden = F.relu(self._product(self.conv0, self.conv0_in, *shifted_input(self.conv0, self.conv0_in, x)))
            return self._product(self.conv1, self.conv1_in, *shifted_input(self.conv1, self.conv1_in, hidden))
        xq = shift(quantise(x, self.conv0_in()))
        hidden = to_levels(self._levels(self.conv0, self.conv0_in, None, xq, self.conv1_in()), 0)
        return self._product(self.conv1, self.conv1_in, None, shift(hidden))

    def gmsa(self, x, attention):
        quantised = self.v.step is not None or (self.computes and self.q.step is not None)
        xq = quantise(x, self.inp_in()) if quantised else None
        group = x.shape[-1] // 3
        if self.v_step is None:
            q = self._product(self.q, self.inp_in, x, xq) if self.computes else None
            v = self._product(self.v, self.inp_in, x, xq)
        else:
            spread = lambda step: step().repeat_interleave(group)
            q = to_levels(self._levels(self.q, self.inp_in, x, xq, spread(self.q_step))) if self.computes else None
            v = to_levels(self._levels(self.v, self.inp_in, x, xq, spread(self.v_step)))
        parts, used = [], []
        for k, window in enumerate(WINDOWS):
            roll = window // 2 if self.shifted else 0
            cut = lambda t: partition(t[..., k * group : (k + 1) * group], window, roll)
            if self.computes:
                weights = self._attention(cut(q), k)
            else:
                weights = attention[k]
            y = weights[0] @ cut(v)
            if self.v_step is not None:
                y = y * (self.v_step()[k] / weights[1])
            parts.append(unpartition(y, window, roll, x.shape))
            used.append(weights)
        return self._product(self.out, self.out_in, torch.cat(parts, -1)), used

    def _attention(self, q, k):
        """Of a group: softmax(q q^T); in 8 bits integers, the largest of a row 255, and the sums of the rows."""
        scores = q @ q.transpose(-1, -2)
        if self.q_step is None:
            return scores.softmax(-1), None
        step = self.q_step()[k].double()
        octaves = narrow(step * step * math.log2(math.e))
        below = scores - scores.amax(-1, keepdim=True).detach()
        e = Round.apply(255 * torch.exp2(octaves * below))
        return e, e.sum(-1, keepdim=True)

    def forward(self, x, attention):
        x = x + self.lfe(x)
        y, attention = self.gmsa(x, attention)
        return x + y, attention


class Elab(nn.Module):
    def __init__(self, tensors, int8, index, pairs, exact):
        super().__init__()
        self.pairs = nn.ModuleList(Pair(tensors, int8, index, j, exact) for j in range(pairs))

    def forward(self, x):
        attention = None
        for pair in self.pairs:
            x, attention = pair(x, attention)
        return x


def shifted_input(matrix, step, x):
    """What a shift convolution multiplies: values, and integers where it wants them."""
    x = shift(x)
    return x, None if matrix.step is None else quantise(x, step())


def shift(x):
    """Each fifth of the channels from its neighbour: right, left, below, above, itself; zero outside."""
    g = x.shape[-1] // 5
    return torch.cat(
        [
            F.pad(x[:, :, 1:, :g], (0, 0, 0, 1)),
            F.pad(x[:, :, :-1, g : 2 * g], (0, 0, 1, 0)),
            F.pad(x[:, 1:, :, 2 * g : 3 * g], (0, 0, 0, 0, 0, 1)),
            F.pad(x[:, :-1, :, 3 * g : 4 * g], (0, 0, 0, 0, 1, 0)),
            x[..., 4 * g :],
        ],
        -1,
    )


def check_shift(base, mask):
    g = mask.shape[0] // 5
    taps = mask.float().flatten(1)
    expected = torch.zeros_like(taps)
    for k, tap in enumerate((5, 3, 7, 1, 4)):
        expected[k * g : (k + 1) * g if k < 4 else None, tap] = 1
    if not torch.equal(taps, expected):
        raise SystemExit(f"{base}.weight: expected the usual shifts, found others")


def partition(x, window, roll):
    """[N, H, W, C] to [N, windows, tokens, C]."""
    if roll:
        x = x.roll((-roll, -roll), (1, 2))
    n, h, w, c = x.shape
    x = x.view(n, h // window, window, w // window, window, c).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(n, -1, window * window, c)


def unpartition(x, window, roll, shape):
    n, h, w, _ = shape
    x = x.view(n, h // window, w // window, window, window, -1).permute(0, 1, 3, 2, 4, 5).reshape(n, h, w, -1)
    return x.roll((roll, roll), (1, 2)) if roll else x


def projections(tensors, gmsa, computes):
    """Weight and bias of q (None where an earlier pair's is used) and of v, batch norm folded in."""
    inp = gmsa + ".project_inp"
    if inp + ".v.weight" in tensors:
        part = lambda name: (tensors[f"{inp}.{name}.weight"].float(), tensors[f"{inp}.{name}.bias"].float())
        return part("q") if computes else None, part("v")
    weight, bias = tensors[inp + ".0.weight"].double().flatten(1), tensors[inp + ".0.bias"].double()
    if inp + ".1.running_var" in tensors:
        norm = {name: tensors[f"{inp}.1.{name}"].double() for name in ("weight", "bias", "running_mean", "running_var")}
        gain = norm["weight"] / (norm["running_var"] + 1e-5).sqrt()
        weight, bias = weight * gain[:, None], (bias - norm["running_mean"]) * gain + norm["bias"]
    if not computes:
        return None, (weight.float(), bias.float())
    group = weight.shape[0] // 6
    rows = torch.arange(weight.shape[0]).view(3, 2, group)
    return tuple((weight[r].float(), bias[r].float()) for r in (rows[:, 0].flatten(), rows[:, 1].flatten()))


@torch.no_grad()
def tensors_of(net, masks):
    """The tensors of a weights file, as elan-sr quantize writes them (in floating point: batch norms folded)."""
    out = {}
    out["sub_mean.weight"] = out["add_mean.weight"] = torch.eye(3).view(3, 3, 1, 1)
    out["sub_mean.bias"], out["add_mean.bias"] = -net.mean.flatten(), net.mean.flatten()

    def put(base, matrix, step, input_key=None):
        rows, columns = matrix.weight.shape
        out[base + ".bias"] = matrix.bias
        if matrix.step is None:
            out[base + ".weight"] = matrix.weight.view(rows, columns, 1, 1)
            return
        out[base + ".weight"] = matrix.levels().to(torch.int8).view(rows, columns, 1, 1)
        out[base + ".weight_scale"] = matrix.step()
        out[input_key or base + ".input_scale"] = step().view(1)

    for name, conv in (("head.0", net.head), ("tail.0", net.tail)):
        out[name + ".weight"], out[name + ".bias"] = conv.weight, conv.bias
    for i, elab in enumerate(net.body):
        for j, pair in enumerate(elab.pairs):
            for name in ("conv0", "conv1"):
                base = f"body.{i}.modules_lfe.lfe_{j}.{name}.shift_conv"
                out[base + ".weight"] = masks[base + ".weight"]
                put(base + ".conv1x1", getattr(pair, name), getattr(pair, name + "_in"))
            gmsa = f"body.{i}.modules_gmsa.gmsa_{j}"
            inp = gmsa + ".project_inp"
            if pair.v.step is None and (pair.q is None or pair.q.step is None):
                out[inp + ".0.weight"], out[inp + ".0.bias"] = joined(pair)
            else:
                if pair.computes:
                    put(inp + ".q", pair.q, pair.inp_in, inp + ".input_scale")
                put(inp + ".v", pair.v, pair.inp_in, inp + ".input_scale")
            put(gmsa + ".project_out", pair.out, pair.out_in)
            if pair.v_step is not None:
                out[gmsa + ".v_scale"] = pair.v_step()
                if pair.computes:
                    out[gmsa + ".q_scale"] = pair.q_step()
    return {
        key: (t if t.dtype == torch.int8 else t.float()).detach().cpu().contiguous().clone() for key, t in out.items()
    }


def joined(pair):
    """q and v as the rows of the three groups of project_inp."""
    parts = [pair.v] if pair.q is None else [pair.q, pair.v]
    take = lambda t: t.view(3, -1, *t.shape[1:])
    weight = torch.cat([take(p.weight) for p in parts], 1).flatten(0, 1)
    bias = torch.cat([take(p.bias) for p in parts], 1).flatten(0, 1)
    return weight[:, :, None, None], bias


def save(net, masks, metadata, path, half_ends=False):
    """`half_ends` rounds the weights of head and tail to F16, which makes a small file smaller."""
    tensors = tensors_of(net, masks)
    for key, t in tensors.items():
        if key.endswith("shift_conv.weight") or key in ("sub_mean.weight", "add_mean.weight"):
            tensors[key] = t.bfloat16()  # zeros and ones
        elif half_ends and key in ("head.0.weight", "tail.0.weight"):
            tensors[key] = t.half()
    save_file(tensors, path, {**metadata, "format": "pt", "scale": str(net.scale)})


def pad_to_windows(x):
    """Right and bottom by reflection, to multiples of the largest window."""
    for side in (2, 3):
        size = x.shape[side]
        i = torch.arange(-(-size // 16) * 16, device=x.device)
        period = max(1, 2 * (size - 1))
        i = i % period
        x = x.index_select(side, torch.where(i < size, i, period - i))
    return x


def enlarge(net, picture):
    """uint8 [H, W, 3] to float [s*H, s*W, 3], neither rounded nor clamped."""
    device = next(net.parameters()).device
    h, w = picture.shape[:2]
    x = picture.to(device).permute(2, 0, 1)[None].float()
    y = net(pad_to_windows(x))
    return y[0, :, : h * net.scale, : w * net.scale].permute(1, 2, 0)
