"""Rewards, one per file: `reward(view, columns, config) -> [R]`, NaN abstains.

A file here is found by its name (`plugins.find("rewards", name)`). It holds a
frozen `Config` with its settings, each with a default, and a pure `reward`; a
`check(config)`, where it has one, raises UserError at start-up where a setting
without a useful default was not set. The view (`rollouts.response.Responses`)
and the columns are read-only, and no reward sees another's result, so the order
of the rewards can not matter.
"""
