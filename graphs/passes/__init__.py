"""Graph -> graph: precision, attention kernel, fusion. A stack names the passes; `hwsim.lower` runs them."""
