"""Checks that need an NVIDIA GPU; `check.sh` runs them with every backend that is installed."""
