"""Pure functions of arrays: what a prediction and a perturbation are worth."""
