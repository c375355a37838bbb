"""Published cost claims held against what hwsim computes.

`reading` turns `graphs/variants/<system>.claims.toml` into claims: what was printed, and apart from it a
recipe that says how to compute it again. `recipes` runs a recipe, which never sees the printed value;
`verdicts` alone sees both. `checking.claims` is the door.
"""
