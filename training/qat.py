#!/usr/bin/env python3
"""Trains an 8-bit ELAN further: quantisation-aware training with learned step sizes and distillation.

    elan-sr quantize --attention --data photos --shrink light light_a8.safetensors
    qat.py --model models/elan_light_x4.safetensors --int8 light_a8.safetensors --pack patches.zip \\
        --steps 3000 --minutes 8 --checkpoint light.pt --out light_int8.safetensors

The network computes what docs/quantization.md says, so that the file written is one that every engine runs alike.
The loss is L1 against the pictures plus `--distil` times L1 against the enlargement by --model in floating point.
A run ends after --minutes, or when it is interrupted or told to end, and writes its checkpoint; the same command goes
on from there until --steps are done, and takes the same steps however it is cut into pieces. The file (of averaged
weights) is written at the end of every piece. `--fp32` trains --model itself by the same steps, which is what a
quantised result must be compared with: training alone raises PSNR.

Needs the packages of training/requirements.txt and a patch pack made by pack.py. Works on a GPU or the CPU.
"""

import argparse
import json
import math
import pathlib
import signal
import time

import torch
import torch.nn.functional as F

import elan_quant
import pack

LUMA = (65.481, 128.553, 24.966)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--model", type=pathlib.Path, required=True, help="the network in floating point: start and teacher")
    add("--int8", type=pathlib.Path, help="the same network as elan-sr quantize made it: scales and biases")
    add("--pack", type=pathlib.Path, required=True, help="patches, made by pack.py")
    add("--checkpoint", type=pathlib.Path, required=True, help="where the run is kept; there: go on")
    add("--out", type=pathlib.Path, required=True, help="the weights file to write")
    add("--fp32", action="store_true", help="train in floating point, for comparison")
    add("--steps", type=int, default=3000, help="of the whole run (default: 3000)")
    add("--minutes", type=float, default=8, help="of this piece of it (default: 8)")
    add("--batch", type=int, default=16)
    add("--side", type=int, default=48, help="of a low-resolution patch, a multiple of 16 (default: 48)")
    add("--rate", type=float, default=5e-5, help="of the weights, at the start (default: 5e-5)")
    add("--step-rate", type=float, default=2e-4, help="of the logarithms of the scales (default: 2e-4)")
    add("--warm", type=int, default=50, help="steps of rising rates (default: 50)")
    add("--distil", type=float, default=1.0, help="weight of the teacher (default: 1)")
    add("--average", type=float, default=0.998, help="of the exponential moving average (default: 0.998)")
    add("--every", type=int, default=500, help="steps between validations (default: 500)")
    add("--validation", type=int, default=24, help="patches of the pack to validate with (default: 24)")
    add("--seed", type=int, default=1)
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--compile", action="store_true", help="torch.compile for the blocks: a minute at first, then faster")
    add("--deterministic", action="store_true", help="the same bits again on the same machine, where PyTorch can")
    arguments = parser.parse_args()
    if bool(arguments.int8) == arguments.fp32:
        parser.error("expected --int8 FILE or --fp32")
    if arguments.side % 16 != 0:
        parser.error(f"--side: expected a multiple of 16, found {arguments.side}")
    return arguments


class Patches:
    """Random squares of a pack on the device, turned and mirrored; step n of a seed is always the same."""

    def __init__(self, path, scale, device, seed):
        low, high = (torch.from_numpy(a).to(device) for a in pack.read(path, scale))
        self.low, self.high, self.scale, self.seed = low, high, scale, seed

    def batch(self, step, count, side):
        rng = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        room = self.low.shape[1] - side + 1
        draw = lambda n: torch.randint(n, (count,), generator=rng).tolist()
        lows, highs = [], []
        for k, y, x, turn in zip(draw(len(self.low)), draw(room), draw(room), draw(8)):
            for to, of, s in ((lows, self.low, 1), (highs, self.high, self.scale)):
                cut = of[k, y * s : (y + side) * s, x * s : (x + side) * s]
                cut = torch.rot90(cut, turn % 4, (0, 1))
                to.append(cut.flip(0) if turn >= 4 else cut)
        form = lambda cuts: torch.stack(cuts).permute(0, 3, 1, 2).float()
        return form(lows), form(highs)


def luma_psnr(a, b, border):
    weights = torch.tensor(LUMA, device=a.device, dtype=torch.float64) / 255
    a, b = ((x.double() @ weights)[border:-border, border:-border] for x in (a, b))
    return 10 * math.log10(255**2 / float(((a - b) ** 2).mean()))


@torch.no_grad()
def validate(net, pictures):
    """Mean PSNR on the Y channel against the pictures and against what the teacher makes of them, in dB."""
    totals = [0, 0]
    for low, *references in pictures:
        y = elan_quant.enlarge(net, low).round().clamp(0, 255)
        for k, reference in enumerate(references):
            totals[k] += luma_psnr(y, reference, net.scale) / len(pictures)
    return {"psnr": round(totals[0], 4), "psnr_to_teacher": round(totals[1], 3)}


class Run:
    def __init__(self, arguments):
        self.arguments = arguments
        device = torch.device(arguments.device)
        floating = elan_quant.load(arguments.model)
        start = elan_quant.load(arguments.int8) if arguments.int8 else None
        self.masks, self.metadata = floating[0], dict((start or floating)[1])
        self.net = elan_quant.ElanQuant(floating, start).to(device)
        self.average = elan_quant.ElanQuant(floating, start).to(device)
        self.teacher = elan_quant.ElanQuant(floating).to(device).requires_grad_(False)
        self.patches = Patches(arguments.pack, self.net.scale, device, arguments.seed)
        low, high = pack.read(arguments.pack, self.net.scale, "validation")
        self.pictures = [self.references(a, b) for a, b in list(zip(low, high))[: arguments.validation]]
        steps = self.net.steps()
        others = [p for p in self.net.parameters() if not any(p is s for s in steps)]
        groups = [{"params": others, "top": arguments.rate}]
        if steps:
            groups.append({"params": steps, "top": arguments.step_rate})
        self.optimiser = torch.optim.Adam(groups, lr=0.0, betas=(0.9, 0.99), fused=device.type == "cuda")
        self.step, self.seconds, self.history, self.told_to_stop = 0, 0.0, [], False
        if arguments.checkpoint.exists():
            self.resume()
        if arguments.compile:
            for net in (self.net, self.teacher):
                for elab in net.body:
                    elab.compile()
        self.differentiate = self.recorded() if device.type == "cuda" else self.differentiate_now

    @torch.no_grad()
    def references(self, low, high):
        """A picture for validation, what it should become and what the teacher makes of it, unrounded."""
        low, high = (torch.from_numpy(a).to(self.arguments.device) for a in (low, high))
        return low, high, elan_quant.enlarge(self.teacher, low)

    def fixed(self):
        """What must not change within a run."""
        names = ("model", "int8", "pack", "fp32", "steps", "batch", "side", "rate", "step_rate", "warm", "distil")
        names += ("average", "seed")
        return {name: str(getattr(self.arguments, name)) for name in names}

    def resume(self):
        path = self.arguments.checkpoint
        state = torch.load(path, map_location=self.arguments.device, weights_only=True)
        for name, value in self.fixed().items():
            if state["fixed"][name] != value:
                option = "--" + name.replace("_", "-")
                raise SystemExit(f"{path}: expected {option} {state['fixed'][name]} as it began, found {value}")
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds, self.history = state["step"], state["seconds"], state["history"]

    def keep(self):
        state = {"fixed": self.fixed(), "step": self.step, "seconds": self.seconds, "history": self.history}
        for name in ("net", "average", "optimiser"):
            state[name] = getattr(self, name).state_dict()
        beside = self.arguments.checkpoint.with_suffix(".part")
        torch.save(state, beside)
        beside.replace(self.arguments.checkpoint)

    def differentiate_now(self, low, high):
        """Leaves the gradients of a batch in the parameters and gives its losses."""
        a = self.arguments
        self.optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            taught = self.teacher(low) if a.distil > 0 else None
        y = self.net(low)
        loss = F.l1_loss(y, high)
        distance = F.l1_loss(y, taught) if a.distil > 0 else torch.zeros_like(loss)
        (loss + a.distil * distance).backward()
        return torch.stack([loss.detach(), distance.detach()])

    def recorded(self):
        """The same as one CUDA graph: thousands of short kernels are not launched one by one."""
        batch = self.patches.batch(0, self.arguments.batch, self.arguments.side)
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # libraries reserve what they need, --compile compiles
            for _ in range(3):
                self.differentiate_now(*batch)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            losses = self.differentiate_now(*batch)

        def replay(*next_batch):
            for to, of in zip(batch, next_batch):
                to.copy_(of)
            graph.replay()
            return losses.clone()

        return replay

    def take_step(self):
        a = self.arguments
        losses = self.differentiate(*self.patches.batch(self.step, a.batch, a.side))
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 20.0)
        share = min(1, (self.step + 1) / a.warm) * (0.5 + 0.5 * math.cos(math.pi * self.step / a.steps))
        for group in self.optimiser.param_groups:
            group["lr"] = group["top"] * share
        self.optimiser.step()
        self.step += 1
        keep = min(a.average, self.step / (self.step + 9))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.net.parameters()), 1 - keep)
        return losses

    def note(self, **values):
        line = {"step": self.step, "seconds": round(self.seconds, 1), **values}
        self.history.append(line)
        print(json.dumps(line), flush=True)

    def stop(self, *_):
        self.told_to_stop = True

    def train(self):
        a = self.arguments
        for kind in (signal.SIGINT, signal.SIGTERM):
            signal.signal(kind, self.stop)
        began, before = time.monotonic(), self.seconds
        if self.step == 0:
            self.note(**validate(self.average, self.pictures))
        losses, first = [], (time.monotonic(), self.step)
        while self.step < a.steps:
            losses.append(self.take_step())
            asked = self.step % min(a.every, 20) == 0 or self.step == a.steps
            if asked:  # reading a loss waits for the device, so not at every step
                last = float(losses[-1].sum())
                self.seconds = before + time.monotonic() - began
                if not math.isfinite(last):
                    raise SystemExit(f"step {self.step}: expected a finite loss, found {last}")
            if self.step % a.every == 0 or self.step == a.steps:
                rate = (self.step - first[1]) / (time.monotonic() - first[0])
                loss, distance = (round(float(mean), 4) for mean in torch.stack(losses).mean(0))
                quality = validate(self.average, self.pictures)
                self.note(loss=loss, distance=distance, **quality, steps_per_second=round(rate, 3))
                losses, first = [], (time.monotonic(), self.step)
            if self.told_to_stop or (asked and self.seconds - before > a.minutes * 60):
                break
        self.seconds = before + time.monotonic() - began
        self.keep()
        self.export()
        left = a.steps - self.step
        print(f"{a.out}: step {self.step}" + (f", {left} left: the same command goes on" if left else ", done"))

    @torch.no_grad()
    def worst_mean_error(self):
        """Of a validation picture, against exact activations: what the check of a sample expects."""
        exact = elan_quant.ElanQuant(elan_quant.floats_of((elan_quant.tensors_of(self.average, self.masks), {})))
        exact = exact.to(self.arguments.device)
        enlarge = elan_quant.enlarge
        return max(float((enlarge(self.average, p[0]) - enlarge(exact, p[0])).abs().mean()) for p in self.pictures)

    def export(self):
        a = self.arguments
        did = (
            f"{self.step} steps of {a.batch} patches of {a.side}x{a.side}, rate {a.rate:g}, distillation {a.distil:g}"
        )
        metadata = dict(self.metadata)
        if a.fp32:
            metadata["training"] = "continued in floating point: " + did
        else:
            metadata["quantization"] = "by training: weights per output channel, activations per tensor, 8 bits" + (
                "; attention per group, 8 bits" if self.net.body[0].pairs[0].v_step is not None else ""
            )
            metadata["quantization_training"] = did + f", scales {a.step_rate:g}"
            metadata.pop("quantization_error", None)
            metadata["worst_mean_abs_error"] = f"{self.worst_mean_error():.4g}"
        elan_quant.save(self.average, self.masks, metadata, a.out, half_ends=not a.fp32)


def main():
    arguments = parse_arguments()
    # Integers of 8 bits and their sums are exact in TF32; the head and the tail are not integers.
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(arguments.seed)
    if arguments.deterministic:
        torch.use_deterministic_algorithms(True)
    Run(arguments).train()


if __name__ == "__main__":
    main()
