"""The choice by measurement: `core.tune`, and the timer that everything else measures with."""
