#!/usr/bin/env python3
"""Times elan-sr and PyTorch eager FP32 (stock malloc) on the same picture in the same run and prints
the ratios. Takes the options of compare_cpu.py, which does the work and knows more peers.

    .venv-bench/bin/python bench/compare_torch.py --program build/release/cli/elan-sr
"""
import compare_cpu

if __name__ == "__main__":
    compare_cpu.main(only="eager_stock")
