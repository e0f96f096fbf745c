"""The pack file format, the background bank, calibration, and the packs that ship."""
