"""Evaluation of predictions."""

from adakron_jax.evaluation.assessment import Assessment as Assessment
from adakron_jax.evaluation.assessment import assess as assess
