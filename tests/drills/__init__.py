"""Drills: real beats, real faults, and a verdict reckoned from the schedule alone."""
