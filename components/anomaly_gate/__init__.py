"""AnomalyGate: are these data worth training on, and can they judge a model?"""

from components.anomaly_gate.component import AnomalyGate

__all__ = ['AnomalyGate']
