//go:build !azure

package stores

func azure() map[string]scheme { return nil }
