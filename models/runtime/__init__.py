"""Running the shipped models without torch: preprocessing, engines, gate, calibration."""
