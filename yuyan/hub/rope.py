"""Rotary settings of published configs, in the spelling of every year.

Files on disk mostly have `rope_theta` beside `rope_scaling`; newer ones have both inside `rope_parameters`. Both are
read, and both are written, so that any reader finds the one it knows. Where they differ, `rope_scaling` counts: that is
where people write a scaling down, as the cards of models tell them to.
"""

from __future__ import annotations

import math
from typing import Any

from yuyan.hub.published import Published
from yuyan.nn.position import Rotary
from yuyan.nn.rotary import DynamicScaling, LinearScaling, Llama3Scaling, YarnScaling

Scalings = LinearScaling | DynamicScaling | YarnScaling | Llama3Scaling


def read_rotary(c: Published, theta: float = 10_000.0) -> Rotary:
    """The rotary positions of a config whose family has `theta` unless it says otherwise."""
    length = c.take("max_position_embeddings", int, 2048)
    outside = c.maybe("original_max_position_embeddings", int)
    new, old = c.maybe("rope_parameters", dict), c.maybe("rope_scaling", dict)
    parameters = dict(old or new or {})
    inner = parameters.pop("rope_theta", None) or (new or {}).get("rope_theta")
    top = c.maybe("rope_theta", float)
    c_theta = float(inner if inner is not None else top if top is not None else theta)
    if top is not None and inner is not None and top != inner:
        raise c.wrong("rope_theta", f"{top} here, but {inner} in rope_parameters")
    factor = c.maybe("partial_rotary_factor", float) or parameters.pop("partial_rotary_factor", None)
    if factor not in (None, 1.0):
        raise c.wrong("partial_rotary_factor", f"{factor} is not supported; only 1.0")
    inside = parameters.get("original_max_position_embeddings")
    if outside and inside and outside != inside:
        raise c.wrong("original_max_position_embeddings", f"{outside} here, but {inside} in rope_parameters")
    return Rotary(theta=c_theta, scaling=_scaling(c, parameters, length, outside or length))


def _scaling(c: Published, given: dict[str, Any], length: int, trained: int) -> Scalings | None:
    legacy = given.pop("type", None)
    kind = given.pop("rope_type", legacy) or "default"
    inner = Published(given, f"{c.where}: rope_scaling")
    scaling: Scalings | None
    if kind == "default":
        scaling = None
    elif kind == "linear":
        scaling = LinearScaling(factor=inner.take("factor", float))
    elif kind == "dynamic":
        inner.ignore("original_max_position_embeddings")  # published models stretch from max_position_embeddings
        scaling = DynamicScaling(factor=inner.take("factor", float), original_max_position_embeddings=length)
    elif kind == "yarn":
        scaling = _yarn(inner, length, trained)
    elif kind == "llama3":
        scaling = Llama3Scaling(
            factor=inner.take("factor", float),
            low_freq_factor=inner.take("low_freq_factor", float),
            high_freq_factor=inner.take("high_freq_factor", float),
            original_max_position_embeddings=inner.take("original_max_position_embeddings", int, trained),
        )
    else:
        raise c.wrong("rope_scaling", f"{kind!r} is not supported; only default, linear, dynamic, yarn and llama3")
    inner.finish()
    return scaling


def _yarn(inner: Published, length: int, trained: int) -> YarnScaling:
    original = inner.take("original_max_position_embeddings", int, trained)
    factor = inner.maybe("factor", float) or length / original
    above, below = inner.maybe("mscale", float), inner.maybe("mscale_all_dim", float)
    magnitude = inner.maybe("attention_factor", float)
    if magnitude is None and above and below and factor > 1:
        magnitude = (0.1 * above * math.log(factor) + 1) / (0.1 * below * math.log(factor) + 1)
    return YarnScaling(
        factor=factor,
        original_max_position_embeddings=original,
        beta_fast=inner.maybe("beta_fast", float) or 32.0,
        beta_slow=inner.maybe("beta_slow", float) or 1.0,
        attention_factor=magnitude,
        truncate=inner.take("truncate", bool, True),
    )


def write_rotary(rotary: Rotary) -> dict[str, Any]:
    """The keys of a config that say the same, in the old spelling and the new."""
    scaling = rotary.scaling
    if scaling is None:
        return {
            "rope_theta": rotary.theta,
            "rope_scaling": None,
            "rope_parameters": {"rope_type": "default", "rope_theta": rotary.theta},
        }
    values = {k: v for k, v in scaling.model_dump(exclude={"kind"}).items() if v is not None}
    keys: dict[str, Any] = {}
    if isinstance(scaling, DynamicScaling):
        keys["max_position_embeddings"] = values.pop("original_max_position_embeddings")
    told = {"rope_type": scaling.kind, **values}
    return keys | {
        "rope_theta": rotary.theta,
        "rope_scaling": told,
        "rope_parameters": told | {"rope_theta": rotary.theta},
    }
