"""The story told on real parts; not in the image.

Duty: start the parts a broker lives among (OpenBao, a TokenReview endpoint,
PostgreSQL, a search API), an example MCP server and an agent, and tell in about
a minute what happens to keys with the broker and without it. The parts serve the
tests with real servers as well.

Not its duty: anything a deployed broker needs.
"""
