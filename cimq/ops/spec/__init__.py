"""The specification of the crossbar products in plain Python (docs/numbers.md): what every kernel is tested against.

It derives the mapping rules on its own and is slow on purpose. Tests and `backend="reference"` import it, nothing else:
production code that did would pass its own errors. From the rules up: `mapping_rules`, `read_noise`, `conversions`,
`crossbar_products`.
"""
