"""Adversarial attacks in pure torch."""

from octrobust.attack.elastic_net import ElasticNet, ElasticNetResult

__all__ = ["ElasticNet", "ElasticNetResult"]
