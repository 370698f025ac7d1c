"""Figures that are no tests: accuracy on real photographs, speed and memory, side by side in one run."""
