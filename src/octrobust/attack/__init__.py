"""Adversarial attacks in pure torch."""

from octrobust.attack.elastic_net import ElasticNet, ElasticNetResult
from octrobust.attack.speed import Shortcuts, Speed

__all__ = ["ElasticNet", "ElasticNetResult", "Shortcuts", "Speed"]
