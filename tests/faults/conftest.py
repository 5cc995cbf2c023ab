"""The finished checkout of the pipeline's tests: what was never killed."""

from tests.pipeline.conftest import finished

__all__ = ["finished"]
