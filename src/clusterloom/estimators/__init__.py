"""Estimators to scikit-learn's conventions."""
