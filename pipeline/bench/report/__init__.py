"""Words on a benchmark: the answer in sentences, tables, and the page in the style of the report."""
