"""Models of torch under check, for `pipeline.verify`."""

import torch

from lightning_impl.verify.subject import ModuleSubject


def prepare(threads):
    torch.set_num_threads(threads)
    torch.set_default_dtype(torch.float64)


def open_subject(made, inputs, keywords, layouts):
    return ModuleSubject(made, keywords)
