"""Three small models, each written in five ways: a file each, with `cnn`, `vit` and `gpt`.

They differ in what ports differ in: names, layouts, fused and separate projections, the order of
definition. `cnn` classifies images with batch norms, flattened before the head; `vit` has a class token and
positions; `gpt` a causal decoder with a tied head, a mask of the valid tokens, and `return_hidden`.
"""

OUTPUTS, WIDTH, HEADS, DEPTH, HIDDEN = 5, 8, 2, 2, 16
SIZE, PATCH = 8, 4  # pixels
VOCABULARY, LENGTH = 11, 6
DROPOUT, LATE_DROPOUT = 0.1, 0.25
EPSILON = 1e-5
MOMENTUM = 0.9  # weight of the old statistics
