"""From a head to a plan: circuit, parameters, scales, noise and cost."""
