"""From the file's section ``limits`` to the program's values [pure].

Duty: as ``convert``, for this section.
"""

from __future__ import annotations

from broker.settings import domain_limits as domain
from broker.settings import schema_limits as schema
from broker.settings.rates import FAILURES, FAILURES_RATE, Rate, rate


def caller_limits(limits: schema.CallerLimits) -> domain.CallerLimitSettings:
    """How often callers may ask."""
    return domain.CallerLimitSettings(
        default=limits.default or "",
        rules={
            name: domain.LimitRuleSettings(
                rate=rule.rate,
                clients=tuple(rule.clients or ()),
                tools=tuple(rule.tools or ()),
                credentials=tuple(rule.credentials or ()),
                per=tuple(rule.per),
            )
            for name, rule in limits.rules.items()
        },
        failed_authentications=_failures(limits.failed_authentications),
    )


def _failures(text: str) -> Rate | None:
    if text == FAILURES:
        return FAILURES_RATE
    return rate(text) if text else None
