"""Compiled arithmetic for generating on a CPU: weights laid out for the processor's dot products, and a decoder's step.

`pack` lays out weights, `product` multiplies by them, `step` runs a stack of attention layers, all in machine code that
Numba makes (yuyan.compile), with no compiler installed.
"""
