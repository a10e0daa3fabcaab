"""``make bench``: hand-outs side by side with ``bao proxy``, measured in one run.

Duty: start both on real parts, load them alike, print and write what was measured.
Not its duty: passing or failing: a shared machine decides too much. Targets are shown beside
the figures; nothing here is a test.
Rules:

* servers share one core, the load has another; rounds of the cases alternate, and the
  median round counts, so that a noisy minute touches all alike;
* a round with one failed request is no result: the run stops;
* every figure comes from this run.
"""
