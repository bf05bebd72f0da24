"""Families of causes: each looks at the first place where two passes part, and proposes edits of one side."""

from pipeline.verify.causes.candidate import Family
from pipeline.verify.causes.families.activations import (
    propose_function_moves,
    propose_functions,
    propose_unknown_functions,
)
from pipeline.verify.causes.families.attention import propose_feature_orders
from pipeline.verify.causes.families.losses import propose_label_shifts
from pipeline.verify.causes.families.masks import (
    propose_late_masks,
    propose_masks,
    propose_positions,
)
from pipeline.verify.causes.families.norms import propose_groups, propose_norms, propose_roots
from pipeline.verify.causes.families.numbers import propose_numbers, propose_smoothing
from pipeline.verify.causes.families.order import (
    propose_exchanges,
    propose_moves,
    propose_other_operands,
    propose_parallel_branches,
)
from pipeline.verify.causes.families.ratios import (
    propose_ratios,
    propose_shifted_arrays,
    propose_summands,
)
from pipeline.verify.causes.families.resizing import propose_pooling, propose_resizing
from pipeline.verify.causes.families.results import propose_other_data, propose_other_results
from pipeline.verify.causes.families.skips import propose_part_of_masks, propose_skips
from pipeline.verify.causes.families.statistics import propose_running_statistics
from pipeline.verify.causes.families.windows import propose_windows

# In the order in which they are tried: the most specific first.
FAMILIES: tuple[Family, ...] = (
    propose_functions,
    propose_windows,
    propose_resizing,
    propose_pooling,
    propose_norms,
    propose_roots,
    propose_groups,
    propose_smoothing,
    propose_label_shifts,
    propose_ratios,
    propose_part_of_masks,
    propose_late_masks,
    propose_masks,
    propose_positions,
    propose_numbers,
    propose_summands,
    propose_running_statistics,
    propose_shifted_arrays,
    propose_parallel_branches,
    propose_skips,
    propose_other_results,
    propose_other_data,
    propose_other_operands,
    propose_exchanges,
    propose_feature_orders,
    propose_moves,
    propose_function_moves,
    propose_unknown_functions,
)
