"""TFX components that TFX lacks, the datasets that they read, and helpers of processes."""
