"""Token mixers: ways to let the tokens of a sequence see each other, attention and what stands in its place.

Every mixer takes and gives [batch, tokens, width]. `graphs.mixers.kinds` builds one by name; the sequence
models of `graphs/variants` share them, so that two papers that name the same operator cost the same.
"""
