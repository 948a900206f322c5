"""Kinds of tokens: padding, text, an image cell, a map's code, a forced token.

Location and special tokens are text. FORCED is text that the sampler was made
to say (the prompt's last token, a mode's script, the closing of a map): no
choice of the policy, so not in its gradient.
"""

PAD, TEXT, IMAGE, CODE, FORCED = range(5)
