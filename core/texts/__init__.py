"""Texts in: checked inputs, text files, calibration texts."""
