"""octrobust: adversarial robustness of retinal OCT classifiers. Not for clinical use."""

__version__ = "0.2.0"
