"""Sweeps: plan, launch and status of many jobs."""
