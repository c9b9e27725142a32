"""The OpenVINO backend of core."""
