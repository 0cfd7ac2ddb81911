package config

// DefaultHomeDir is the deprecated home_dir, which has no effect.
const DefaultHomeDir = "/root"
