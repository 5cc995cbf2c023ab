"""octrobust: adversarial robustness of retinal OCT classifiers. Not for clinical use."""

__version__ = "0.1.0"
