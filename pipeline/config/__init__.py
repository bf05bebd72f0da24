"""The typed configuration: one dataclass per config group, checked by Hydra at composition.

Each field has its line of `--help`. Ranges and combinations, which YAML types cannot express, are checked
in `__post_init__`, once, when `typed` converts the composed config.
"""
