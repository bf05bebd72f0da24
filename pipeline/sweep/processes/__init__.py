"""Processes of jobs: forked where a backend is already imported, each with GPUs and cores of its own."""
