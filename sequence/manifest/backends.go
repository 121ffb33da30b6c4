package manifest

import "slices"

// Backends are the kinds of all backends that are used, the default first.
func (c *Config) Backends() []string {
	all := []string{c.Backend}
	for _, kind := range c.Namespaces {
		if !slices.Contains(all, kind) {
			all = append(all, kind)
		}
	}
	return all
}

// BackendOf is the backend of a namespace's channels.
func (c *Config) BackendOf(namespace string) string {
	if b := c.Namespaces[namespace]; b != "" {
		return b
	}
	return c.Backend
}
