//go:build !gcs

package stores

func gcs() map[string]scheme { return nil }
